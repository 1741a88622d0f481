"""Claims of the system ``harmonic-denoisers``."""
