"""Numerical kernels with their own gradients."""
