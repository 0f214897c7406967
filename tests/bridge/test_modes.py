"""The table of modes against what config accepts and what the modes do."""

import dataclasses

import numpy as np
import pytest

from segfusion_jax.bridge import masked
from segfusion_jax.bridge.modes import MODES, REFERENCE
from segfusion_jax.config import BRIDGE_MODES, Bridge

IMAGE = np.random.default_rng(0).uniform(0.2, 1, (6, 5, 3)).astype(np.float32)


def test_there_is_a_row_for_each_mode_that_a_config_accepts():
    assert tuple(MODES) == BRIDGE_MODES


def test_the_reference_does_nothing():
    mask = np.random.default_rng(1).uniform(0, 1, (6, 5, 1)).astype(np.float32)
    np.testing.assert_array_equal(masked.apply(IMAGE, mask, Bridge(mode=REFERENCE)), IMAGE)
    assert not (MODES[REFERENCE].crops or MODES[REFERENCE].dilates)


@pytest.mark.parametrize("mode", BRIDGE_MODES)
def test_a_classifier_of_any_mode_can_be_shown_the_whole_image(mode):
    bridge, mask = Bridge(mode=mode), np.ones((6, 5, 1), np.float32)
    shown = masked.apply(IMAGE, mask, bridge)
    whole = masked.apply(IMAGE, mask, dataclasses.replace(bridge, mode=MODES[mode].unmasked))
    assert shown.shape[-1] == whole.shape[-1] == MODES[mode].channels
    np.testing.assert_array_equal(whole[..., :3], IMAGE)


def test_the_study_with_annotated_masks_takes_the_papers_mode_and_the_defaults():
    assert {name for name, mode in MODES.items() if mode.is_tried_with_annotations} == {"dim", "black", "crop"}
