"""Claims of the area ``discrete``."""
