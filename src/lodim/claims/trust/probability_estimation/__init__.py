"""Claims of the system ``probability-estimation``."""
