"""How good a dictionary is, and what is in it."""
