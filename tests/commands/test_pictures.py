import numpy as np
import pytest
from PIL import Image

from segfusion_jax.commands import pictures
from tests.commands import looks


def image(height: int, width: int, shade: int) -> np.ndarray:
    return np.full((height, width, 3), shade, np.uint8)


def square(height: int, width: int) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask[height // 4 : height // 2, width // 4 : width // 2] = True
    return mask


@pytest.mark.parametrize("shade", [10, 128, 250])
@pytest.mark.parametrize(
    ("size", "shown"), [((24, 16), (512, 341)), ((450, 600), (450, 600)), ((3000, 4000), (1200, 1600))]
)
def test_the_contour_is_seen_around_the_lesion_on_any_skin(shade, size, shown):
    drawn = pictures.overlay(image(*size, shade), square(*size), ["a caption"], fallback="")
    assert drawn.dtype == np.uint8 and drawn.shape[1] >= shown[1] and shown[0] < drawn.shape[0] < 1.2 * shown[0]
    picture = drawn[: shown[0], (drawn.shape[1] - shown[1]) // 2 :][:, : shown[1]]
    rows, columns = np.nonzero(looks.yellow(picture))
    off = 3 + max(shown) / 100 + max(shown) / max(size)
    edges = [
        (rows.min(), shown[0] / 4),
        (rows.max(), shown[0] / 2),
        (columns.min(), shown[1] / 4),
        (columns.max(), shown[1] / 2),
    ]
    assert all(abs(found - expected) < off for found, expected in edges)
    assert looks.yellow(drawn[shown[0] :]).any()  # the legend
    inside = picture[int(0.3 * shown[0]) : int(0.45 * shown[0]), int(0.3 * shown[1]) : int(0.45 * shown[1])]
    assert (inside == shade).all()


def test_without_a_usable_mask_there_is_no_contour_and_the_caption_says_why():
    whole = np.ones((300, 400), bool)
    drawn = pictures.overlay(image(300, 400, 90), whole, ["a caption"], fallback="tiny")
    assert not looks.yellow(drawn).any()
    other = pictures.overlay(image(300, 400, 90), whole, ["a caption"], fallback="border")
    assert drawn.shape == other.shape and (drawn[:384] == other[:384]).all() and (drawn[384:] != other[384:]).any()


def test_a_long_caption_is_never_cut():
    drawn = pictures.overlay(image(400, 20, 90), square(400, 20), ["a very long caption, " * 6], fallback="")
    strip = drawn[512:].mean(axis=2)
    assert drawn.shape[1] > 500 and (strip[:, -4:] == 255).all() and (strip < 100).any()


def test_evidence_is_red_for_and_blue_against_and_leaves_the_rest_grey():
    values = np.zeros((300, 400), np.float32)
    values[50:100, 50:100], values[50:100, 300:350] = 0.02, -0.01
    drawn = pictures.evidence(image(300, 400, 120), np.zeros((300, 400), bool), values, ["a caption"], fallback="empty")
    shown = np.asarray(Image.fromarray(drawn[:384]).resize((400, 300))).astype(int)
    red, blue, skin = shown[75, 75], shown[75, 325], shown[250, 200]
    assert red[0] > red[1] + 50 and red[0] > red[2] + 50
    assert blue[2] > blue[0] + 20
    assert np.ptp(skin) <= 1 and abs(skin[0] - 120) <= 2
    strongest, weaker = np.ptp(red), np.ptp(blue)
    assert strongest > weaker
    none = pictures.evidence(image(300, 400, 120), square(300, 400), 0 * values, ["a caption"], fallback="")
    assert looks.yellow(none[:384]).any()  # and no division by zero
