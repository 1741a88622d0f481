"""Claims of the area ``trust``."""
