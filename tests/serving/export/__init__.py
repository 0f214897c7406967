"""Tests of segfusion_jax.serving.export."""
