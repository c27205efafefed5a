"""Encoding and decoding: a reference in torch's operators, and faster kernels for CPUs and GPUs."""
