"""Claims of the system ``pretraining-advantage``."""
