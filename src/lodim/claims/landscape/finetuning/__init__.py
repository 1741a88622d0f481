"""Claims of the system ``finetuning``."""
