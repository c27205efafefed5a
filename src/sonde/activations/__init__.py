"""Activations: harvested from a model, kept in a store on disk, shuffled exactly, and streamed to training."""
