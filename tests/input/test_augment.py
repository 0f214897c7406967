"""Random geometry: the same for image and mask, by the amounts that are asked for, and fair to the lesion's area."""

import colorsys

import numpy as np
import PIL.Image
import pytest
from PIL import ImageEnhance

from segfusion_jax.config import Augmentation
from segfusion_jax.input.augment import augment, draw, draw_colours, recolour

NOTHING = dict(rotation=0.0, shift_height=0.0, shift_width=0.0, zoom=0.0, flip_horizontal=False, flip_vertical=False)


def only(**amounts) -> Augmentation:
    return Augmentation(**NOTHING | amounts)


def matrices(augmentation: Augmentation, height: int = 40, width: int = 60, draws: int = 400) -> np.ndarray:
    rng = np.random.default_rng(0)
    return draw(augmentation, height, width, rng, draws)


def ellipse(height: int, width: int, share: float = 0.25) -> np.ndarray:
    rows, columns = np.indices((height, width))
    y, x = (rows - (height - 1) / 2) / (share * height), (columns - (width - 1) / 2) / (share * width)
    return np.where(x**2 + y**2 <= 1, 255, 0).astype(np.uint8)


def as_image(mask: np.ndarray) -> np.ndarray:
    return np.stack([mask, 255 - mask, mask], -1)


def test_zero_amounts_change_nothing():
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 256, (9, 12, 3), np.uint8), rng.integers(0, 256, (9, 12), np.uint8)
    same_image, same_mask = augment(image, mask, only(), rng)
    np.testing.assert_array_equal(same_image, image)
    np.testing.assert_array_equal(same_mask, mask)


def test_image_and_mask_get_the_same_geometry():
    mask = np.random.default_rng(0).integers(0, 256, (32, 48), np.uint8)
    for seed in range(20):
        image, warped = augment(as_image(mask), mask, Augmentation(), np.random.default_rng(seed))
        assert image.shape == (32, 48, 3)
        assert image.dtype == warped.dtype == np.uint8
        np.testing.assert_allclose(image[..., 0].astype(int), warped, atol=1)  # rounded
        np.testing.assert_allclose(255 - image[..., 1].astype(int), warped, atol=1)


def test_a_draw_is_a_function_of_the_generator():
    image, mask = as_image(ellipse(32, 48)), ellipse(32, 48)
    first, again, other = (augment(image, mask, Augmentation(), np.random.default_rng(seed))[0] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(
    ("flips", "expected"),
    [
        (dict(flip_horizontal=True), {"same": 0.5, "horizontal": 0.5}),
        (dict(flip_vertical=True), {"same": 0.5, "vertical": 0.5}),
        (
            dict(flip_horizontal=True, flip_vertical=True),
            dict.fromkeys(("same", "horizontal", "vertical", "both"), 0.25),
        ),
    ],
)
def test_flips_are_exact_and_happen_half_of_the_time(flips, expected):
    image = np.random.default_rng(0).integers(0, 256, (5, 8, 3), np.uint8)
    flipped = {"same": image, "horizontal": image[:, ::-1], "vertical": image[::-1], "both": image[::-1, ::-1]}
    counts, rng = dict.fromkeys(flipped, 0), np.random.default_rng(0)
    for _ in range(800):
        output, _ = augment(image, image[..., 0], only(**flips), rng)
        (name,) = [name for name, array in flipped.items() if np.array_equal(array, output)]
        counts[name] += 1 / 800
    for name, share in counts.items():
        assert share == pytest.approx(expected.get(name, 0), abs=0.06)  # 3 standard errors


def test_rotations_are_uniform_in_their_bounds_and_rigid():
    linear = matrices(only(rotation=30.0))[:, :, :2]
    angles = np.rad2deg(np.arctan2(linear[:, 1, 0], linear[:, 0, 0]))
    assert -30 <= angles.min() < -29
    assert 29 < angles.max() <= 30
    assert angles.std() == pytest.approx(60 / 12**0.5, rel=0.1)
    np.testing.assert_allclose(linear @ linear.transpose(0, 2, 1), np.broadcast_to(np.eye(2), linear.shape), atol=1e-12)


def test_zooms_are_drawn_for_each_axis():
    linear = matrices(only(zoom=0.3))[:, :, :2]
    np.testing.assert_array_equal(linear[:, [0, 1], [1, 0]], 0)
    across, down = linear[:, 0, 0], linear[:, 1, 1]
    for scale in (across, down):
        assert 0.7 <= scale.min() < 0.71
        assert 1.29 < scale.max() <= 1.3
    assert abs(np.corrcoef(across, down)[0, 1]) < 0.15


def test_shifts_are_shares_of_height_and_width():
    shifted = matrices(only(shift_height=0.1, shift_width=0.5), height=40, width=60)
    np.testing.assert_array_equal(shifted[:, :, :2], np.broadcast_to(np.eye(2), (400, 2, 2)))
    x, y = shifted[:, 0, 2], shifted[:, 1, 2]
    assert -30 <= x.min() < -29
    assert 29 < x.max() <= 30
    assert -4 <= y.min() < -3.9
    assert 3.9 < y.max() <= 4


def test_everything_turns_about_the_centre():
    amounts = dict(rotation=180.0, zoom=0.5, flip_horizontal=True, flip_vertical=True)
    centre = np.array([29.5, 19.5, 1.0])
    np.testing.assert_allclose(matrices(only(**amounts)) @ centre, np.tile([29.5, 19.5], (400, 1)), atol=1e-9)


def test_the_matrix_maps_input_to_output():
    # a bright pixel goes where the matrix says, in x and in y
    image = np.zeros((41, 61), np.uint8)
    image[10, 40] = 255
    for seed in range(10):
        matrix = draw(Augmentation(), 41, 61, np.random.default_rng(seed), 1)[0]
        _, warped = augment(as_image(image), image, Augmentation(), np.random.default_rng(seed))
        x, y = matrix @ [40, 10, 1]
        if 2 < x < 58 and 2 < y < 38:
            row, column = np.unravel_index(warped.argmax(), warped.shape)
            assert np.hypot(column - x, row - y) < 1.1


def test_a_constant_image_stays_constant():
    image, mask = np.full((20, 30, 3), 93, np.uint8), np.full((20, 30), 200, np.uint8)
    for seed in range(20):
        warped, warped_mask = augment(image, mask, Augmentation(rotation=180.0), np.random.default_rng(seed))
        np.testing.assert_array_equal(warped, image)
        np.testing.assert_array_equal(warped_mask, mask)


def test_the_nearest_pixel_repeats_beyond_the_border():
    # columns of an image that is shifted along its width: each row of the output is the input's, clamped at its ends
    columns = np.broadcast_to(np.arange(0, 240, 8, dtype=np.uint8), (20, 30))
    for seed in range(20):
        amount = draw(only(shift_width=0.4), 20, 30, np.random.default_rng(seed), 1)[0, 0, 2]
        _, warped = augment(as_image(columns), columns, only(shift_width=0.4), np.random.default_rng(seed))
        expected = np.interp(np.arange(30) - amount, np.arange(30), columns[0])
        np.testing.assert_allclose(warped, np.tile(expected, (20, 1)), atol=1)


@pytest.mark.parametrize(
    ("amounts", "tolerance"),
    [
        (dict(rotation=180.0), 0.01),
        (dict(shift_height=0.2, shift_width=0.2), 0.01),
        (dict(NOTHING, rotation=45.0), 0.01),
    ],
)
def test_rigid_motion_keeps_the_lesions_area(amounts, tolerance):
    mask, rng = ellipse(96, 128, share=0.15), np.random.default_rng(0)
    warped = np.stack([augment(as_image(mask), mask, only(**amounts), rng)[1] for _ in range(200)])
    share = (mask / 255).mean()
    assert (warped / 255).mean() == pytest.approx(share, rel=tolerance)
    assert (warped >= 127.5).mean() == pytest.approx(share, rel=tolerance)


def test_zoom_scales_the_lesions_area_by_its_determinant():
    mask = ellipse(96, 128, share=0.2)
    share, ratios = (mask / 255).mean(), []
    for seed in range(200):
        determinant = np.linalg.det(
            draw(only(rotation=20.0, zoom=0.2), 96, 128, np.random.default_rng(seed), 1)[0, :, :2]
        )
        _, warped = augment(as_image(mask), mask, only(rotation=20.0, zoom=0.2), np.random.default_rng(seed))
        ratios.append([(warped / 255).mean() / determinant / share, (warped >= 127.5).mean() / determinant / share])
    np.testing.assert_allclose(np.mean(ratios, 0), 1, atol=0.01)


class TestColours:
    def drawn(self, count: int = 500, **amounts) -> np.ndarray:
        return draw_colours(only(**amounts), np.random.default_rng(0), count)

    @pytest.mark.parametrize("name", ["brightness", "saturation"])
    def test_they_are_pillows(self, name):
        image = np.random.default_rng(1).integers(40, 200, (8, 9, 3), np.uint8)
        matrices = self.drawn(20, **{name: 0.5})
        enhance = {"brightness": ImageEnhance.Brightness, "saturation": ImageEnhance.Color}[name]
        enhanced = enhance(PIL.Image.fromarray(image))
        seen = set()
        for matrix in matrices:
            red = matrix[0, 0]  # the factor itself, or 0.299 + 0.701 times it
            factor = red if name == "brightness" else (red - 0.299) / 0.701
            expected = np.asarray(enhanced.enhance(factor)).astype(int)
            np.testing.assert_allclose(recolour(image, matrix).astype(int), expected, atol=2)  # Pillow rounds its greys
            seen.add(round(factor, 6))
        assert 0.5 <= min(seen) < 0.7 and 1.3 < max(seen) <= 1.5

    def test_contrast_keeps_mid_grey_and_scales_what_is_off_it(self):
        matrices = self.drawn(contrast=0.3)
        factors = matrices[:, 0, 0]
        assert factors.min() == pytest.approx(0.7, abs=0.01) and factors.max() == pytest.approx(1.3, abs=0.01)
        for colour in ([127.5, 127.5, 127.5], [27.5, 127.5, 227.5]):
            expected = 127.5 + factors[:, None] * (np.array(colour) - 127.5)
            np.testing.assert_allclose(matrices @ [*colour, 1], expected, atol=1e-9)

    def test_hues_turn_and_keep_luma_and_chroma(self):
        colour = np.array([200.0, 120.0, 90.0])
        turned = self.drawn(hue=30.0) @ [*colour, 1]
        before, after = colorsys.rgb_to_yiq(*colour / 255), np.array([colorsys.rgb_to_yiq(*c / 255) for c in turned])
        np.testing.assert_allclose(after[:, 0], before[0], atol=0.01)
        np.testing.assert_allclose(np.hypot(*after[:, 1:].T), np.hypot(*before[1:]), atol=0.01)
        angles = np.rad2deg(np.arctan2(after[:, 2], after[:, 1]) - np.arctan2(before[2], before[1]))
        assert angles.min() == pytest.approx(-30, abs=1.5) and angles.max() == pytest.approx(30, abs=1.5)

    def test_hue_and_saturation_turn_and_scale_all_chroma_alike(self):
        matrices = self.drawn(hue=30.0, saturation=0.5)
        chroma = []
        for colour in ([200.0, 120.0, 90.0], [90.0, 110.0, 150.0]):
            before, after = (
                np.array([complex(*colorsys.rgb_to_yiq(*c / 255)[1:]) for c in colours])
                for colours in (np.array([colour]), matrices @ [*colour, 1])
            )
            chroma.append(after / before)
        np.testing.assert_allclose(*chroma, atol=0.02)
        factors, angles = np.abs(chroma[0]), np.rad2deg(np.angle(chroma[0]))
        assert factors.min() == pytest.approx(0.5, abs=0.02) and factors.max() == pytest.approx(1.5, abs=0.02)
        assert angles.min() == pytest.approx(-30, abs=1.5) and angles.max() == pytest.approx(30, abs=1.5)

    def test_white_balance_scales_each_channel_by_itself_and_comes_first(self):
        matrices = self.drawn(white_balance=0.2)
        gains = matrices[:, [0, 1, 2], [0, 1, 2]]
        for channel in gains.T:
            assert channel.min() == pytest.approx(0.8, abs=0.01) and channel.max() == pytest.approx(1.2, abs=0.01)
        assert np.abs(np.corrcoef(gains.T)[np.triu_indices(3, 1)]).max() < 0.15
        np.testing.assert_allclose(matrices @ [10.0, 20.0, 30.0, 1.0], gains * [10.0, 20.0, 30.0], atol=1e-9)
        colour = np.array([10.0, 20.0, 30.0])
        saturated = self.drawn(saturation=0.5)[:, :, :3] @ (gains * colour)[..., None]
        both = self.drawn(white_balance=0.2, saturation=0.5) @ [*colour, 1.0]
        np.testing.assert_allclose(both, saturated[..., 0], atol=1e-9)

    def test_the_mask_keeps_its_values(self):
        mask = ellipse(20, 30)
        image = as_image(mask)
        recoloured, same = augment(image, mask, only(brightness=0.5, hue=90.0), np.random.default_rng(2))
        np.testing.assert_array_equal(same, mask)
        assert (recoloured != image).any()
