"""Claims of the area ``generative``."""
