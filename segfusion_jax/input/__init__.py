"""How images reach the device: decoding, augmentation, batches. Nothing here imports jax."""
