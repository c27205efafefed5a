"""The few hot loops. Here are the torch-only ones, which are the reference everywhere."""
