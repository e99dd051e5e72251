"""Packed low-bit tensors: how they are stored, and the kernels that compute on them."""
