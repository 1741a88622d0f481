"""Claims of EpiGRAF (arXiv 2206.10535)."""
