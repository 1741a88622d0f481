"""Claims of 2311.15439: simplices instead of cells, in less time, at the same size and quality."""
