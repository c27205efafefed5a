"""Circuits: what a model's answer comes from, by components, and by the features of a replacement of its MLPs."""
