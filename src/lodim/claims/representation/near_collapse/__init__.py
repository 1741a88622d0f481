"""Claims of the system ``near-collapse``."""
