"""Levels of grey and of lesion, whole numbers from 0 to 255, and the numbers in [0, 1] that they stand for.

All functions take NumPy arrays on the host and JAX arrays on the device, and say the same of both.
"""

import math

from segfusion_jax.config import Bridge

WHOLE = 255
"""Level of certain lesion, and of a mask that falls back to the whole image."""


def to_levels(unit):
    """Rounds numbers in [0, 1], such as probabilities of lesion, to levels, uint8."""
    return (unit * WHOLE).round().astype("uint8")


def to_unit(levels):
    """Turns levels of any dtype into numbers in [0, 1], float32."""
    return levels.astype("float32") / WHOLE


def is_lesion(levels, bridge: Bridge):
    """Tells whether levels of lesion, of a dtype of whole numbers, reach the threshold; bool."""
    return levels >= math.ceil(bridge.threshold * WHOLE)
