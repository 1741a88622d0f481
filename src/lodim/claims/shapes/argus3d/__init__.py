"""Claims of 2402.12225: shapes as short sequences of codes, and a GPT that writes them."""
