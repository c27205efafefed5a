"""Circuits: what made a model's answer: features, places and heads, and graphs of the features of a replacement."""
