"""Claims of the system ``comparison``."""
