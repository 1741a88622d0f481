"""Claims of the area ``partition``."""
