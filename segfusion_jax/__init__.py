"""SegFusion in JAX: segment a skin lesion, mask the image, classify it as benign or malignant.

    import segfusion_jax as sf

    model = sf.SegFusion.load("workdir")
    predictions = model.predict(["lesion.jpg"])

Importing it starts no device, defines no flag and configures nothing.
"""

from segfusion_jax import bridge
from segfusion_jax.config import Config
from segfusion_jax.datasets.prepared import load_dataset
from segfusion_jax.inference import Prediction, SegFusion
from segfusion_jax.models.efficientnet import EfficientNet
from segfusion_jax.models.functional import functional
from segfusion_jax.models.unet import UNet

__all__ = ["Config", "EfficientNet", "Prediction", "SegFusion", "UNet", "bridge", "functional", "load_dataset"]
