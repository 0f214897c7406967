import numpy as np
import pytest

from segfusion_jax.evaluation.explanation import inside_share


def square(height: int, width: int, rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask[rows, columns] = True
    return mask


def test_shares_by_hand():
    evidence = np.array([[1.0, -2.0], [-5.0, 1.0]], np.float32)
    mask = square(4, 6, slice(0, 2), slice(2, 5))  # a third of the first place, two thirds of the second
    inside, area = inside_share(evidence, mask)
    assert inside == pytest.approx((1 / 3 + 2 * 2 / 3) / 9)
    assert area == pytest.approx(6 / 24)


def test_evidence_spread_evenly_lies_inside_in_the_share_of_the_area():
    rng = np.random.default_rng(0)
    for size in ((7, 7), (20, 31), (99, 50)):  # not multiples of the grid's
        mask = rng.random(size) < 0.3
        inside, area = inside_share(np.full((7, 7), 0.2, np.float32), mask)
        assert inside == pytest.approx(area, rel=1e-6) and area == pytest.approx(mask.mean())


def test_a_lesion_smaller_than_a_place_counts_in_full():
    mask = square(70, 70, slice(32, 36), slice(32, 36))
    evidence = np.zeros((7, 7), np.float32)
    evidence[3, 3] = 2.0
    inside, area = inside_share(evidence, mask)
    assert inside == pytest.approx(16 / 100) and area == pytest.approx(16 / 4900)


def test_soft_masks_are_shares_and_evidence_counts_for_and_against():
    evidence = np.array([[3.0, -9.0], [-1.0, 0.0]], np.float32)
    mask = np.zeros((4, 4), np.uint8)
    mask[:2, :2], mask[2:, :2] = 51, 255
    assert inside_share(evidence, mask)[0] == pytest.approx((3 * 0.2 + 1) / 13)
    assert inside_share(evidence, mask > 0)[0] == pytest.approx(4 / 13)
    assert inside_share(-evidence, mask) == inside_share(evidence, mask)


def test_without_evidence_there_is_no_share():
    mask = square(8, 8, slice(0, 4), slice(0, 8))
    inside, area = inside_share(np.zeros((2, 2), np.float32), mask)
    assert np.isnan(inside) and area == 0.5


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((4, 4), np.float32), "mask is float32: must be bool or uint8"),
        (np.zeros((4, 1), bool), r"mask is \(4, 1\): .* at least that of evidence \(2, 2\)"),
        (np.zeros((4, 4, 1), bool), r"mask is \(4, 4, 1\): must be \(height, width\)"),
    ],
)
def test_masks_that_do_not_fit_are_refused(mask, message):
    with pytest.raises(ValueError, match=message):
        inside_share(np.ones((2, 2)), mask)
