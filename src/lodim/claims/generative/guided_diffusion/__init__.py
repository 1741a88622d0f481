"""Claims of 2404.07771: guidance, subspaces, rewards, and the dimension that a denoiser knows."""
