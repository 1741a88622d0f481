"""Claims of the system ``objective-landscapes``."""
