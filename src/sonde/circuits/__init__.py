"""Causes: what in a model makes it say what it says."""
