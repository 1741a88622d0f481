"""Claims of the area ``representation``."""
