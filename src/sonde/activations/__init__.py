"""Harvesting activations, the store on disk, the exact shuffle, and the stream that training reads."""
