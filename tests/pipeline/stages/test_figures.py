"""What the figures of a run are given to show."""

import dataclasses

import numpy as np

from segfusion_jax.config import Config
from segfusion_jax.evaluation.calibration import Calibration
from segfusion_jax.pipeline.stages import figures
from segfusion_jax.pipeline.stages.predicted import Predicted
from segfusion_jax.report import plots
from segfusion_jax.serving.ensembles import Classes
from tests.input import fakes


def test_the_bridges_panels_show_the_whole_image_beside_the_crop(tmp_path, monkeypatch):
    bridge = dataclasses.replace(Config().bridge, mode="crop", margin=0.0)
    source = fakes.examples(2, bridge=bridge)
    classes = Classes(("benign", "malignant"), (False, True), 1)
    test = Predicted(tuple(source.rows), np.zeros((2, 1)), Calibration(1.0, (0.0,)), classes, (0.5, 0.5))
    shown = []
    monkeypatch.setattr(plots, "bridge_panels", lambda path, panels: shown.extend(panels))
    figures.draw_bridge(tmp_path, bridge, test, source)
    for (image, mask, bridged, title), position in zip(shown, (1, 0), strict=True):  # malignant first
        np.testing.assert_array_equal(mask, fakes.mask(position))
        assert image.shape == bridged.shape and title == f"{source.rows[position].image_id}\n{classes.names[position]}"
    assert [source[place]["mask"].min() for place in (0, 1)] == [255, 255]  # the crops are all lesion
