"""What rounding costs, made less: equalised layers, corrected biases, roundings that see the outputs."""
