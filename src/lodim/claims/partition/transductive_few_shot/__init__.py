"""Claims of the system ``transductive-few-shot``."""
