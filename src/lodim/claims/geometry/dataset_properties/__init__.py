"""Claims of the system ``dataset-properties``."""
