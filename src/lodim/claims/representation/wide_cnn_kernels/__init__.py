"""Claims of the system ``wide-cnn-kernels``."""
