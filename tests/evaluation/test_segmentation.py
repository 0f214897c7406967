import math
import time

import numpy as np
import pytest
from scipy import ndimage
from sklearn import metrics as sk_metrics

from segfusion_jax.evaluation import segmentation

DISTANCES = ("hausdorff_95", "hausdorff_95_diagonal", "surface_distance", "surface_distance_diagonal")


def mask(text: str) -> np.ndarray:
    return np.array([[character == "#" for character in row] for row in text.split()])


def box(top: int, left: int, height: int, width: int, size: tuple[int, int] = (30, 40)) -> np.ndarray:
    """A rectangle of lesion in an image whose diagonal is 50 pixels long."""
    filled = np.zeros(size, bool)
    filled[top : top + height, left : left + width] = True
    return filled


def test_overlap_of_a_hand_worked_case():
    # 2 hits, 1 false alarm, 2 misses, 4 correct rejections
    scores = segmentation.score(mask("##. #.. ..."), mask("##. .#. .#."))
    assert {name: scores[name] for name in list(scores)[:6]} == pytest.approx(
        {
            "dice": 4 / 7,
            "jaccard": 2 / 5,
            "thresholded_jaccard": 0.0,
            "sensitivity": 2 / 4,
            "specificity": 4 / 5,
            "accuracy": 6 / 9,
        }
    )


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_scikit_learn_on_pixels(seed):
    generator = np.random.default_rng(seed)
    annotation = generator.random((17, 23)) < 0.3
    prediction = annotation ^ (generator.random((17, 23)) < 0.1)
    truth, call = annotation.ravel(), prediction.ravel()
    scores = segmentation.score(prediction, annotation)
    assert scores["dice"] == pytest.approx(sk_metrics.f1_score(truth, call))
    assert scores["jaccard"] == pytest.approx(sk_metrics.jaccard_score(truth, call))
    assert scores["sensitivity"] == pytest.approx(sk_metrics.recall_score(truth, call))
    assert scores["specificity"] == pytest.approx(sk_metrics.recall_score(~truth, ~call))
    assert scores["accuracy"] == pytest.approx(sk_metrics.accuracy_score(truth, call))


@pytest.mark.parametrize(("hits", "kept"), [(13, 0.65), (12, 0.0)])
def test_jaccard_counts_from_the_threshold_on(hits, kept):
    annotation = np.ones((4, 5), bool)
    prediction = (np.arange(20) < hits).reshape(4, 5)
    assert segmentation.score(prediction, annotation)["thresholded_jaccard"] == kept


def test_distances_between_single_pixels_are_euclidean():
    scores = segmentation.score(box(0, 0, 1, 1), box(3, 4, 1, 1))
    assert [scores[name] for name in DISTANCES] == pytest.approx([5, 10, 5, 10])  # 3-4-5, and a diagonal of 50


def test_distances_between_two_shifted_squares():
    # Surfaces are rings of 8 pixels, one column apart. Of each ring, the 3 pixels of the far side lie 1 from the other
    # ring, 4 lie on it, and the middle of the near side lies in its centre, 1 from it.
    scores = segmentation.score(box(10, 10, 3, 3), box(10, 11, 3, 3))
    assert scores["surface_distance"] == pytest.approx(8 / 16)
    assert scores["hausdorff_95"] == pytest.approx(1)
    assert scores["surface_distance_diagonal"] == pytest.approx(1)


def test_distances_pool_both_surfaces_and_take_the_larger_percentile():
    # A line of 20 pixels against its first one. There: 0, 1, ..., 19; back: one 0.
    scores = segmentation.score(box(5, 5, 1, 20), box(5, 5, 1, 1))
    assert scores["surface_distance"] == pytest.approx(190 / 21)
    assert scores["hausdorff_95"] == pytest.approx(0.95 * 19)  # linear between the 19th and the 20th of 20


def test_surface_is_a_four_neighbour_erosion_and_runs_along_the_image_border():
    # The whole image of 5 x 5 has its outer ring of 16 pixels as surface, the pixel in its middle is one itself.
    # From the ring: 4 pixels at 2, 8 at sqrt 5, 4 at sqrt 8; back: one 2.
    scores = segmentation.score(np.ones((5, 5), bool), box(2, 2, 1, 1, (5, 5)))
    assert scores["surface_distance"] == pytest.approx((4 * 2 + 8 * math.sqrt(5) + 4 * math.sqrt(8) + 2) / 17)
    # A plus of 5 pixels keeps its centre under a 4-connected erosion (a square one would leave nothing).
    plus = mask("..... ..#.. .###. ..#.. .....")
    assert segmentation.score(plus, box(2, 2, 1, 1, (5, 5)))["surface_distance"] == pytest.approx(1)


def test_a_hole_has_a_surface():
    ring = box(2, 2, 9, 9) & ~box(6, 6, 1, 1)
    scores = segmentation.score(ring, box(2, 2, 9, 9))
    # Of the hole's 4 neighbours each lies 3 from the outer ring, which the two share: 32 pixels of each.
    assert scores["surface_distance"] == pytest.approx(4 * 3 / (32 + 4 + 32))


def test_boundary_iou_of_a_hand_worked_case():
    # The diagonal of 50 makes the boundary 1 pixel wide: the rings of 16 and 8 pixels do not meet.
    outer, inner = box(10, 10, 5, 5), box(11, 11, 3, 3)
    assert segmentation.score(inner, outer)["boundary_iou"] == 0
    # Twice as large an image: 2 pixels wide, 24 of 25 pixels against all 9, 8 of which are among the 24.
    for shape in ((60, 80), (57, 76)):  # 2 % of 95 are 1.9 pixels
        outer, inner = box(10, 10, 5, 5, shape), box(11, 11, 3, 3, shape)
        assert segmentation.score(inner, outer)["boundary_iou"] == pytest.approx(8 / 25)
    # At the image's corner the border counts as outside: still a whole ring.
    assert segmentation.score(box(0, 0, 3, 3), box(0, 0, 5, 5))["boundary_iou"] == pytest.approx(5 / 19)


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_distance_maps_of_the_whole_image(seed):
    """SciPy's erosions and distance transforms, without any cut: another way to the same numbers."""
    generator = np.random.default_rng(seed)
    masks = [ndimage.gaussian_filter(generator.normal(size=(90, 120)), 6) > 0.03 for _ in range(2)]
    scores = segmentation.score(*masks)
    surfaces = [m & ~ndimage.binary_erosion(m) for m in masks]
    there, back = (ndimage.distance_transform_edt(~b)[a] for a, b in (surfaces, surfaces[::-1]))
    assert scores["hausdorff_95"] == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)), rel=1e-12)
    assert scores["surface_distance"] == pytest.approx(np.concatenate([there, back]).mean(), rel=1e-12)
    bands = [m & ~ndimage.binary_erosion(m, np.ones((3, 3)), iterations=3) for m in masks]  # 2 % of 150
    assert scores["boundary_iou"] == pytest.approx((bands[0] & bands[1]).sum() / (bands[0] | bands[1]).sum())


def test_scores_do_not_depend_on_the_order_or_on_the_place():
    first, second = box(4, 5, 9, 7), box(6, 3, 11, 8)
    there, back = segmentation.score(first, second), segmentation.score(second, first)
    moved = segmentation.score(np.roll(first, (8, 20), (0, 1)), np.roll(second, (8, 20), (0, 1)))
    for name in ("dice", "jaccard", "boundary_iou", *DISTANCES):
        assert there[name] == pytest.approx(back[name]) == pytest.approx(moved[name])


def test_two_empty_masks_agree_perfectly():
    empty = np.zeros((3, 4), bool)
    scores = segmentation.score(empty, empty)
    assert {name for name, value in scores.items() if value == 0} == set(DISTANCES)
    assert {value for name, value in scores.items() if name not in DISTANCES} == {1.0}


@pytest.mark.parametrize("swap", [False, True])
def test_against_an_empty_mask_distances_are_the_diagonal(swap):
    masks = [box(3, 3, 5, 5), np.zeros((30, 40), bool)]
    scores = segmentation.score(*masks[:: -1 if swap else 1])
    assert [scores[name] for name in DISTANCES] == pytest.approx([50, 100, 50, 100])
    assert scores["boundary_iou"] == scores["dice"] == scores["jaccard"] == 0.0


def test_a_lesion_that_is_not_there_scores_zero():
    scores = segmentation.score(np.ones((3, 3), bool), np.zeros((3, 3), bool))
    assert scores["dice"] == scores["jaccard"] == scores["specificity"] == 0.0
    assert scores["sensitivity"] == 1.0  # nothing was there to be missed: ISIC 2018 scores 0/0 as 1


def test_a_jaccard_of_065_is_no_failure():
    assert segmentation.score(box(0, 0, 1, 13), box(0, 0, 1, 20))["thresholded_jaccard"] == 0.65
    columns = segmentation.columns([{"jaccard": value} for value in (0.65, 0.649, 0.0)])
    assert columns["failure_rate"].tolist() == [0, 1, 1] and columns["zero_rate"].tolist() == [0, 0, 1]


def test_official_rules_of_isic_2018():
    """Worked by hand from the rules: lesion above 128, Jaccard 0 below 0.65, 0/0 is 1, then the mean over images."""
    stored = [np.uint8([[0, 127, 128, 129, 255]])] * 3
    submitted = [np.uint8([[0, 0, 0, 255, 255]]), np.uint8([[0, 0, 255, 255, 255]]), np.uint8([[0, 0, 0, 255, 0]])]
    assert segmentation.binarise(stored[0]).tolist() == [[False, False, False, True, True]]
    nothing = np.zeros((1, 5), np.uint8)
    pairs = zip([*submitted, nothing], [*stored, nothing], strict=True)
    scores = [segmentation.score(segmentation.binarise(p), segmentation.binarise(a)) for p, a in pairs]
    assert [s["thresholded_jaccard"] for s in scores] == pytest.approx([1, 2 / 3, 0, 1])
    assert segmentation.summarise(scores)["thresholded_jaccard"] == pytest.approx((1 + 2 / 3 + 0 + 1) / 4)


def test_summary_is_a_mean_over_images_not_over_pixels():
    right, annotation = np.ones((1, 1), bool), np.ones((10, 10), bool)
    part, nothing = np.arange(100).reshape(10, 10) < 40, np.zeros((10, 10), bool)
    pairs = [(right, right), (right, right), (part, annotation), (nothing, annotation)]
    scores = [segmentation.score(*pair) for pair in pairs]
    summary = segmentation.summarise(scores)
    assert summary["jaccard"] == (1 + 1 + 0.4 + 0) / 4
    assert summary["failure_rate"] == 0.5
    assert summary["zero_rate"] == 0.25
    assert summary["n"] == 4.0
    assert all(type(value) is float for value in [*summary.values(), *scores[2].values()])
    columns = segmentation.columns(scores)
    assert columns["failure_rate"].tolist() == [0, 0, 1, 1]
    assert columns["zero_rate"].tolist() == [0, 0, 0, 1]
    assert set(columns) | {"n"} == set(summary)


def test_large_masks_are_scored_in_seconds():
    y, x = np.ogrid[:3000, :4000]
    first, second = (np.hypot(y - 1500, x - left) < 1200 for left in (2000, 2060))
    start = time.process_time()
    scores = segmentation.score(first, second)
    assert time.process_time() - start < 5
    assert scores["hausdorff_95"] == pytest.approx(60, abs=1)


def test_masks_that_cannot_be_compared_are_refused():
    good = np.ones((2, 3), bool)
    with pytest.raises(ValueError, match=r"prediction: uint8 array of shape \(2, 3\)"):
        segmentation.score(good.astype(np.uint8) * 255, good)
    with pytest.raises(ValueError, match=r"annotation: bool array of shape \(2, 3, 1\)"):
        segmentation.score(good, good[..., None])
    with pytest.raises(ValueError, match=r"\(3, 2\).*\(2, 3\)"):
        segmentation.score(good.T, good)
    with pytest.raises(ValueError, match="at least one image"):
        segmentation.summarise([])
    with pytest.raises(ValueError, match=r"bool array of shape \(2, 3\): must be uint8"):
        segmentation.binarise(good)
    with pytest.raises(ValueError, match=r"\(2, 3, 3\)"):
        segmentation.binarise(np.zeros((2, 3, 3), np.uint8))


def test_masks_of_0_and_1_are_not_taken_for_empty():
    first, second = (box(at, at, 5, 5).astype(np.uint8) for at in (0, 9))
    assert segmentation.score(segmentation.binarise(first), segmentation.binarise(second))["dice"] == 0
    with pytest.raises(ValueError, match="cannot be told: .* 0, 1, 255: .*; say so by the argument `lesion`"):
        segmentation.binarise(np.uint8([[0, 1, 255]]))
    assert segmentation.binarise(np.uint8([[0, 1, 255]]), "1").tolist() == [[False, True, False]]
