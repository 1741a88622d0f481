"""Claims of 2406.09358: samples between modes are found, and left out when models learn from models."""
