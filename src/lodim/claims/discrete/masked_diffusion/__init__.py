"""Claims of 2409.02908: hidden tokens guessed in any order, sampled exactly, and in tables."""
