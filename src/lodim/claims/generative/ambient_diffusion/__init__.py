"""Claims of 2411.02780: a few clean samples and many noisy ones do nearly what clean ones do."""
