"""Our scores of masks are MONAI's."""

import numpy as np
import pytest
from scipy import ndimage

from segfusion_jax.evaluation import segmentation

pytestmark = pytest.mark.parity

METRICS = {  # our name -> MONAI's
    "dice": "compute_dice",
    "jaccard": "compute_iou",
    "hausdorff_95": "compute_hausdorff_distance",
    "surface_distance": "compute_average_surface_distance",
}
OPTIONS = {"hausdorff_95": {"percentile": 95}, "surface_distance": {"symmetric": True}}


def blobs(seed: int) -> list[np.ndarray]:
    """Two masks of several rugged blobs, some of which touch the image's border."""
    generator = np.random.default_rng(seed)
    size = generator.integers(20, 120, 2)
    fields = [ndimage.gaussian_filter(generator.normal(size=size), 4, mode="nearest") for _ in range(2)]
    fields[1] += fields[0]
    return [field > np.quantile(field, generator.uniform(0.3, 0.9)) for field in fields]


@pytest.mark.parametrize("name", METRICS)
def test_agrees_with_monai(name):
    metrics, torch = pytest.importorskip("monai.metrics"), pytest.importorskip("torch")
    for seed in range(40):
        masks = blobs(seed)
        tensors = (torch.from_numpy(mask[None, None].astype(np.float32)) for mask in masks)
        theirs = getattr(metrics, METRICS[name])(*tensors, include_background=True, **OPTIONS.get(name, {}))
        ours = segmentation.score(*masks)[name]
        assert ours == pytest.approx(float(theirs), rel=1e-5), (seed, name)
