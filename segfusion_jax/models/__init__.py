"""Flax NNX modules, their weight files, and the names that other frameworks give their arrays.

It imports `ops`, `runtime` and `config`, and neither `datasets` nor `input`.
"""
