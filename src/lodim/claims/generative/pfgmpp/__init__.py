"""Claims of 2302.04265: one recipe for every D, and which D bears disturbed sampling."""
