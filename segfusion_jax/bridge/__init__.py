"""The Data Processing Bridge: the one definition of 'masked', in NumPy for the host and in JAX for the device.

It imports only `config`; `traced` and `traced_resize` alone import jax.
"""

from segfusion_jax.bridge.masked import WHOLE, apply, clean, frame

__all__ = ["WHOLE", "apply", "clean", "frame"]
