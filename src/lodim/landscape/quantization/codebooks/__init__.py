"""Sets of values other than an affine grid: free levels, signs, codewords."""
