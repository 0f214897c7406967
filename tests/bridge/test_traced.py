"""The bridge on the device against the bridge on the host: every mode, on masks drawn at odd sizes."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segfusion_jax import bridge as host
from segfusion_jax.bridge import masked, traced, traced_clean
from segfusion_jax.bridge.levels import to_levels, to_unit
from segfusion_jax.bridge.resize import resize
from segfusion_jax.config import BRIDGE_MODES, Bridge

MASKS = [(17, 23), (32, 20), (5, 9)]
IMAGES = [(17, 23), (40, 61), (16, 16), (33, 47)]
SIZE = (19, 22)


@st.composite
def masks(draw):
    """Of patches of levels around the threshold, of a pixel each or coarser; uint8."""
    size, coarse = draw(st.sampled_from(MASKS)), draw(st.tuples(st.integers(1, 8), st.integers(1, 8)))
    patches = draw(hnp.arrays(np.uint8, coarse, elements=st.sampled_from([0, 90, 127, 128, 200, 255])))
    rows, columns = (np.arange(new) * old // new for new, old in zip(size, coarse, strict=True))
    return patches[np.ix_(rows, columns)]


EMPTY, FULL, EDGE = np.zeros(MASKS[0], np.uint8), np.full(MASKS[0], 255, np.uint8), np.zeros(MASKS[0], np.uint8)
EDGE[12:17, 20:23] = 255  # a lesion in the corner of the far edges
MIDDLE = np.pad(np.full((5, 7), 255, np.uint8), ((6, 6), (8, 8)))


def with_examples(test):
    for mask in (EMPTY, FULL, EDGE, MIDDLE):
        test = example(mask=mask)(test)
    return settings(deadline=None, max_examples=60)(given(mask=masks())(test))


@functools.cache
def compiled(function, **options):
    return jax.jit(functools.partial(function, **options))


@with_examples
def test_cleaning_is_the_hosts(mask):
    bridge = Bridge(min_area=0.05, max_border=0.7)
    cleaned, number = compiled(traced_clean.clean, bridge=bridge)(mask[None].astype(np.int32))
    expected, fallback = host.clean(mask, bridge)
    np.testing.assert_array_equal(cleaned[0], expected)
    assert traced_clean.FALLBACKS[number[0]] == fallback


@with_examples
def test_growing_is_the_hosts(mask):
    bridge = Bridge(dilation=0.08)
    grown = compiled(traced.dilate, bridge=bridge)(mask[None].astype(np.int32))
    np.testing.assert_array_equal(grown[0], masked.dilate(mask, bridge))


@pytest.mark.parametrize("size", IMAGES)
@pytest.mark.parametrize("margin", [0.0, 0.3])
@with_examples
def test_boxes_end_where_the_hosts_end_in_images_of_any_size(size, margin, mask):
    bridge = Bridge(margin=margin)
    box = compiled(traced.box, bridge=bridge, size=size)(mask[None].astype(np.int32))
    assert [(int(start[0]), int(stop[0])) for start, stop in box] == [
        (place.start, place.stop) for place in masked.box(mask, bridge, size)
    ]


@pytest.mark.parametrize("mode", ["none", "dilate", "crop", "crop_dilate"])
def test_the_part_that_is_taken_is_the_hosts(mode):
    bridge, size = Bridge(mode=mode, dilation=0.04, margin=0.1), (40, 61)
    batch = np.stack([EMPTY, FULL, EDGE, MIDDLE])
    found = compiled(traced.place, bridge=bridge, size=size)(batch.astype(np.int32))
    numbers = np.arange(size[0] * size[1]).reshape(size)
    for (top, left, bottom, right), mask in zip(found.tolist(), batch, strict=True):
        np.testing.assert_array_equal(numbers[top:bottom, left:right], masked.frame(numbers, mask, bridge)[0])


@pytest.mark.parametrize("mode", BRIDGE_MODES)
@pytest.mark.parametrize("size", IMAGES)
def test_what_the_classifier_sees_is_what_it_sees_on_the_host(mode, size):
    bridge = Bridge(mode=mode, alpha=0.4, dilation=0.04, margin=0.1)
    batch = [EMPTY, FULL, EDGE, MIDDLE, (MIDDLE // 2 + MIDDLE[::-1, ::-1] // 2).astype(np.uint8)]
    images = np.random.default_rng(0).integers(0, 256, (len(batch), *size, 3)).astype(np.uint8)
    found = compiled(device, bridge=bridge)(images, np.stack(batch))
    expected = []
    for image, mask in zip(images, batch, strict=True):
        image, mask = (resize(part, SIZE) for part in masked.frame(image, mask, bridge))
        expected.append(masked.apply(to_unit(image), to_unit(mask[..., None]), bridge))
    np.testing.assert_array_equal(to_levels(np.asarray(found)), to_levels(np.stack(expected)))
    assert np.ptp(found[2:]) > 0.5


def device(images, masks, bridge):
    image, mask = traced.frame(images.astype(np.float32), masks.astype(np.int32), bridge, SIZE)
    return masked.apply(to_unit(image), to_unit(mask), bridge)
