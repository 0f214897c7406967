"""Networks of timm and torchvision on the CPU."""

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from tests.models.drawn import draw
from tests.parity.networks import Outputs

# Beside the plain CPU torch, torchvision lacks its compiled operators and fails where it describes these two, which no
# network here calls: declared, it imports. They last as long as `_declared`.
try:
    import torchvision
except RuntimeError:
    _declared = torch.library.Library("torchvision", "DEF")
    for _name in ("nms", "qnms"):
        _declared.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision

import timm  # noqa: E402
import timm.models  # noqa: E402
from torchvision.models.efficientnet import MBConv  # noqa: E402
from torchvision.models.mobilenetv3 import InvertedResidual  # noqa: E402

_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class TorchPeer:
    """A network with drawn weights.

    Args:
      version: of the library.
      model: of it; dropout and stochastic depth are turned off.
      stages: the stem and the blocks of the model, modules.
      head: the last layer.
      normalisation: mean and deviation that the weights expect of the images.
      gain: of the weights.
      save: writes the weights into a folder and returns the file's path.
    """

    def __init__(
        self,
        version: str,
        model: nn.Module,
        stages: list[nn.Module],
        head: nn.Module,
        normalisation: tuple[tuple[float, ...], tuple[float, ...]],
        gain: float,
        save: Callable[[nn.Module, pathlib.Path], pathlib.Path],
    ):
        self.version = version
        self.normalisation = normalisation
        self._model, self._stages, self._head, self._save = model, stages, head, save
        self._norms = {name: module for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
        for module in model.modules():
            if isinstance(module, nn.Dropout | torchvision.ops.StochasticDepth):
                module.p = 0.0
        for norm in self._norms.values():
            norm.momentum = 0.1
        self._arrays = draw({name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}, gain)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the arrays in the file."""
        return {name: array.shape for name, array in self._arrays.items()}

    def save(self, folder: pathlib.Path) -> pathlib.Path:
        """Writes the weights in the library's own format."""
        self._fill()
        return self._save(self._model, folder)

    def run(self, images: np.ndarray, *, train: bool) -> tuple[Outputs, dict[str, np.ndarray]]:
        """What it makes of `images` [batch, height, width, 3] in [0, 1], and its arrays after that.

        PyTorch moves a running variance towards n / (n - 1) times the variance of the batch's n values a channel, Keras
        and we towards the variance itself: the arrays that are returned are after our step.
        """
        self._fill()
        self._model.train(train)
        mean, std = (np.array(values, np.float32) for values in self.normalisation)
        made: dict[nn.Module, np.ndarray] = {}
        counts: dict[nn.Module, int] = {}
        hooks = [module.register_forward_hook(lambda m, _, y: made.update({m: _array(y)})) for module in self._stages]
        hooks.append(self._head.register_forward_hook(lambda m, inputs, _: made.update({m: _array(inputs[0])})))
        for norm in self._norms.values():
            hooks.append(norm.register_forward_hook(lambda m, inputs, _: counts.update({m: inputs[0][:, 0].numel()})))
        with torch.no_grad():
            logits = self._model(torch.from_numpy(((images - mean) / std).transpose(0, 3, 1, 2).copy()))
        for hook in hooks:
            hook.remove()
        arrays = {name: tensor.numpy().copy() for name, tensor in self._model.state_dict().items()}
        for name, norm in self._norms.items() if train else ():
            key, n = f"{name}.running_var", counts[norm]
            kept = 0.9 * self._arrays[key]
            arrays[key] = kept + (arrays[key] - kept) * (n - 1) / n
        return Outputs([made[module] for module in self._stages], made[self._head], _array(logits)), arrays

    def _fill(self):
        self._model.load_state_dict({name: torch.from_numpy(array) for name, array in self._arrays.items()})


def timm_peer(name: str, gain: float) -> TorchPeer:
    """A network of timm, saved as it is on Hugging Face: safetensors, and how images are normalised."""
    model: Any = timm.create_model(name)
    blocks = [block for stage in model.blocks for block in stage if hasattr(block, "conv_dw")]
    config = model.pretrained_cfg

    def save(model, folder):
        timm.models.save_for_hf(model, str(folder), safe_serialization=True)
        return folder / "model.safetensors"

    normalisation = config["mean"], config["std"]
    return TorchPeer(timm.__version__, model, [model.bn1, *blocks], model.classifier, normalisation, gain, save)


def torchvision_peer(name: str, gain: float) -> TorchPeer:
    """A network of torchvision, saved as a `.pth` file of its state."""
    model: Any = torchvision.models.get_model(name)
    blocks = [module for module in model.modules() if isinstance(module, MBConv | InvertedResidual)]

    def save(model, folder):
        torch.save(model.state_dict(), folder / f"{name}.pth")
        return folder / f"{name}.pth"

    stages = [model.features[0], *blocks]
    return TorchPeer(torchvision.__version__, model, stages, model.classifier[-1], _IMAGENET, gain, save)


def _array(tensor: torch.Tensor) -> np.ndarray:
    array = tensor.detach().numpy().copy()
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array
