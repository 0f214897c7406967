"""How images reach the device: decoding, augmentation, sampling, batches.

It imports `datasets` and `bridge.masked`, and never jax.
"""
