"""Edits as data, and sessions that use them."""
