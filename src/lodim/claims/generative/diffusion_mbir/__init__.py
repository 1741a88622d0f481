"""What a prior of slices does for volumes: from few views, an arc of them, or few frequencies."""
