"""Claims about data sets: how many dimensions they have, and what that explains."""
