"""Tests of segfusion_jax.export."""
