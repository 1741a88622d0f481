"""Claims of 2204.11824: content comes from the database, which may be exchanged after training."""
