"""Numerical kernels with their own gradients; `cpu/` holds those in C++.

It imports `config` and `runtime` only.
"""
