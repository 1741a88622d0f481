"""Claims of the system ``perturbed-likelihood``."""
