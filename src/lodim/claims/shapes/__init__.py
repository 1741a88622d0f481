"""Claims of the area ``shapes``."""
