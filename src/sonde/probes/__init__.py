"""Linear probes, and what single features detect beside them."""
