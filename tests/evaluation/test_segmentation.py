import numpy as np
import pytest
from sklearn import metrics as sk_metrics

from segfusion_jax.evaluation import segmentation


def mask(text: str) -> np.ndarray:
    return np.array([[character == "#" for character in row] for row in text.split()])


def test_hand_worked_case():
    # 2 hits, 1 false alarm, 2 misses, 4 correct rejections
    scores = segmentation.overlap(mask("##. #.. ..."), mask("##. .#. .#."))
    assert scores == pytest.approx(
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
    scores = segmentation.overlap(prediction, annotation)
    assert scores["dice"] == pytest.approx(sk_metrics.f1_score(truth, call))
    assert scores["jaccard"] == pytest.approx(sk_metrics.jaccard_score(truth, call))
    assert scores["sensitivity"] == pytest.approx(sk_metrics.recall_score(truth, call))
    assert scores["specificity"] == pytest.approx(sk_metrics.recall_score(~truth, ~call))
    assert scores["accuracy"] == pytest.approx(sk_metrics.accuracy_score(truth, call))


@pytest.mark.parametrize(("hits", "kept"), [(13, 0.65), (12, 0.0)])
def test_jaccard_counts_from_the_threshold_on(hits, kept):
    annotation = np.ones((4, 5), bool)
    prediction = (np.arange(20) < hits).reshape(4, 5)
    assert segmentation.overlap(prediction, annotation)["thresholded_jaccard"] == kept


def test_two_empty_masks_agree_perfectly():
    empty = np.zeros((3, 3), bool)
    assert set(segmentation.overlap(empty, empty).values()) == {1.0}


def test_a_lesion_that_is_not_there_scores_zero():
    scores = segmentation.overlap(np.ones((3, 3), bool), np.zeros((3, 3), bool))
    assert scores["dice"] == scores["jaccard"] == scores["specificity"] == 0.0
    assert scores["sensitivity"] == 1.0  # nothing was there to be missed: ISIC 2018 scores 0/0 as 1


def test_summary_is_a_mean_over_images_not_over_pixels():
    right, annotation = np.ones((1, 1), bool), np.ones((10, 10), bool)
    wrong = np.zeros((10, 10), bool)
    summary = segmentation.summarise([segmentation.overlap(right, right), segmentation.overlap(wrong, annotation)])
    assert summary["dice"] == 0.5
    assert summary["failure_rate"] == 0.5
    assert summary["n"] == 2.0
    assert all(type(value) is float for value in summary.values())


def test_masks_that_cannot_be_compared_are_refused():
    good = np.ones((2, 3), bool)
    with pytest.raises(ValueError, match=r"prediction: uint8 array of shape \(2, 3\)"):
        segmentation.overlap(good.astype(np.uint8) * 255, good)
    with pytest.raises(ValueError, match=r"annotation: bool array of shape \(2, 3, 1\)"):
        segmentation.overlap(good, good[..., None])
    with pytest.raises(ValueError, match=r"\(3, 2\).*\(2, 3\)"):
        segmentation.overlap(good.T, good)
    with pytest.raises(ValueError, match="at least one image"):
        segmentation.summarise([])
