"""Claims of the system ``black-box-surrogates``."""
