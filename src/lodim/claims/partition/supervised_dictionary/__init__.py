"""Claims of the system ``supervised-dictionary``."""
