"""Claims of the system ``novel-class-discovery``."""
