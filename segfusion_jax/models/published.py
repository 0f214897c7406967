"""Published weights: which files have which name, and how they get into a cache folder."""

import logging
import pathlib
from typing import NamedTuple

from segfusion_jax.models.preprocessing import IMAGENET, Preprocessing
from segfusion_jax.runtime import downloads

_log = logging.getLogger(__name__)

_TIMM = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights"
_TORCHVISION = "https://downloads.pytorch.org/models"


class Published(NamedTuple):
    """A released file of weights trained on ImageNet-1k, and the images that its network expects."""

    url: str
    sha256: str  # all 64 hex digits, or the leading ones that the publisher put into the file's name
    backbone: str  # "efficientnet_b0" ... "efficientnet_b7", "mobilenet_v3_small", "mobilenet_v3_large"
    conventions: (
        str  # "tensorflow": 'SAME' padding, epsilon 1e-3; "timm": symmetric padding, epsilon 1e-5; "torchvision"
    )
    preprocessing: Preprocessing = IMAGENET._replace(image_size=(224, 224))

    @property
    def remote(self) -> downloads.Remote:
        """The file, named like the last part of its URL."""
        return downloads.Remote(self.url, sha256=self.sha256)


PUBLISHED: dict[str, Published] = {
    "efficientnet_b0.tf_aa": Published(
        f"{_TIMM}/tf_efficientnet_b0_aa-827b6e33.pth", "827b6e33", "efficientnet_b0", "tensorflow"
    ),
    "efficientnet_b0.tf_noisy_student": Published(
        f"{_TIMM}/tf_efficientnet_b0_ns-c0e6a31c.pth", "c0e6a31c", "efficientnet_b0", "tensorflow"
    ),
    "efficientnet_b0.timm_ra": Published(
        f"{_TIMM}/efficientnet_b0_ra-3dd342df.pth",
        "3dd342dfa1fee25ae65e7bbdf8998cad6e45d6e77e69d580f0bd14d3eeb0b3f3",
        "efficientnet_b0",
        "timm",
    ),
    "efficientnet_b0.torchvision": Published(
        f"{_TORCHVISION}/efficientnet_b0_rwightman-7f5810bc.pth",
        "7f5810bc96def8f7552d5b7e68d53c4786f81167d28291b21c0d90e1fca14934",
        "efficientnet_b0",
        "torchvision",
    ),
    "mobilenet_v3_small.torchvision": Published(
        f"{_TORCHVISION}/mobilenet_v3_small-047dcff4.pth",
        "047dcff4addef86ea5bc2eff13c9614dc11f47ab1160d0a71a25e7db994f4e1f",
        "mobilenet_v3_small",
        "torchvision",
    ),
    "mobilenet_v3_large.torchvision": Published(
        f"{_TORCHVISION}/mobilenet_v3_large-5c1a4163.pth",
        "5c1a416349c4cf298f2a6a5e2600ed0ee55e604713578f5e74e6bc8bcaef7997",
        "mobilenet_v3_large",
        "torchvision",
    ),
}


def checked(name: str, path: pathlib.Path) -> pathlib.Path:
    """Returns the path of a published file that the user has put somewhere.

    Raises:
      ValueError: it is another file, by its SHA-256.
    """
    if fault := downloads.fault_of(PUBLISHED[name].remote, path):
        raise ValueError(f"{path} is not {name}: it {fault}; remove it or give it another name")
    return path


def fetch(name: str, cache: pathlib.Path) -> pathlib.Path:
    """Returns the path in `cache` of a published file, which is downloaded if it is not there.

    A file that is there is checked at every use, and downloaded again if it is damaged. Processes that ask at once
    download once.

    Args:
      name: a key of `PUBLISHED`.
      cache: folder, made if it is missing.

    Raises:
      ValueError: the name is unknown, or what came has another SHA-256.
      OSError: the download failed; says where to get the file by hand and where to put it.
    """
    if name not in PUBLISHED:
        raise ValueError(f"no published weights are called {name!r}; accepted are {', '.join(sorted(PUBLISHED))}")
    remote = PUBLISHED[name].remote
    try:
        path = downloads.fetch(remote, cache)
        if fault := downloads.fault_of(remote, path):
            _log.warning("%s %s: it is downloaded again", path, fault)
            path.unlink()
            path = downloads.fetch(remote, cache)
        return path
    except OSError as error:
        raise OSError(
            f"{name} could not be downloaded: {error}. Get {remote.url} by hand and put it, as "
            f"{remote.filename}, into a folder of SEGFUSION_DATA or into {cache}"
        ) from error
