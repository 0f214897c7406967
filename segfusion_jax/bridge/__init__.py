"""The Data Processing Bridge: the one definition of 'masked', in NumPy for the host and in JAX for the device.

It imports only `config`; the modules `traced*`, each the twin of one without JAX, alone import jax.
"""

from segfusion_jax.bridge.clean import clean
from segfusion_jax.bridge.levels import WHOLE
from segfusion_jax.bridge.masked import apply, frame

__all__ = ["WHOLE", "apply", "clean", "frame"]
