"""SegFusion in JAX: segment a skin lesion, mask the image, classify it as benign or malignant.

    import segfusion_jax as sf

    model = sf.SegFusion.load("workdir")
    predictions = model.predict(["lesion.jpg"])

    sf.train(sf.Config(), pathlib.Path("workdir"))

Importing it starts no device, defines no flag and configures nothing. Names are loaded when they are first used.
It logs below "segfusion_jax"; where absl's logging was imported before, as JAX's libraries do, that is below "absl".
"""

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segfusion_jax import bridge as bridge
    from segfusion_jax.config import Config as Config
    from segfusion_jax.datasets.prepared import load_dataset as load_dataset
    from segfusion_jax.models.efficientnet import EfficientNet as EfficientNet
    from segfusion_jax.models.functional import functional as functional
    from segfusion_jax.models.mobilenet_v3 import MobileNetV3 as MobileNetV3
    from segfusion_jax.models.pretrained import load_pretrained as load_pretrained
    from segfusion_jax.models.unet import EncoderUNet as EncoderUNet
    from segfusion_jax.models.unet import UNet as UNet
    from segfusion_jax.serving.segfusion import Prediction as Prediction
    from segfusion_jax.serving.segfusion import SegFusion as SegFusion

if "absl" in logging.Logger.manager.loggerDict:
    logging.getLogger(__name__).parent = logging.getLogger("absl")

__version__ = "0.2.0"

_MODULES = {
    "Config": "config",
    "EfficientNet": "models.efficientnet",
    "EncoderUNet": "models.unet",
    "MobileNetV3": "models.mobilenet_v3",
    "Prediction": "serving.segfusion",
    "SegFusion": "serving.segfusion",
    "UNet": "models.unet",
    "functional": "models.functional",
    "load_dataset": "datasets.prepared",
    "load_pretrained": "models.pretrained",
    "train": "pipeline.experiment:run",
}
"""Where each name lies; after a colon what it is called there."""


_ROOMS = {"bridge": "bridge", "experiment": "pipeline.experiment"}

__all__ = [*_ROOMS, *_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        module, _, called = _MODULES[name].partition(":")
        return getattr(importlib.import_module(f"{__name__}.{module}"), called or name)
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{_ROOMS[name]}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
