"""Claims of the system ``neural-collapse``."""
