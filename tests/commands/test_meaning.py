"""What is told of a decision, against metadata that say it."""

from types import SimpleNamespace
from unittest import mock

import pytest

from segfusion_jax.commands.meaning import Meaning
from segfusion_jax.serving.ensembles import Classes


def reached(sensitivity: float, specificity: float) -> dict[str, dict[str, float]]:
    return {"sensitivity": {"value": sensitivity, "low": 0.1}, "specificity": {"value": specificity}}


def model(threshold: float, classes: tuple[str, ...] = ("nevus", "melanoma", "bcc")) -> mock.Mock:
    stated = SimpleNamespace(
        threshold=0.3,
        tested=reached(0.86, 0.84),
        elsewhere=[
            {"title": "ISIC 2017", "n": 2149, "found": reached(0.61, 0.9) | {"roc_auc": {"value": 0.7}}},
            {"title": "masks only", "n": 9, "found": {"dice": {"value": 0.8}}},
        ],
        operating_points=[{"aim": "sensitivity", "level": 0.95, "threshold": 0.08812, "tested": reached(0.95, 0.5)}],
    )
    made = mock.Mock(threshold=threshold, classes=classes)
    made.classifiers.classes = Classes(
        classes, (False, *(True,) * (len(classes) - 1)), len(classes) - (len(classes) == 2)
    )
    made.folder.metadata = stated
    return made


ROW = {
    "probability": "0.631000",
    "decision": "malignant",
    "diagnosis": "bcc",
    "probability of bcc": "0.400000",
    "familiar": "1",
    "novelty": "0.2000",
}


def test_the_released_threshold_is_told_at_home_and_elsewhere():
    meaning = Meaning.of(model(0.3))
    assert meaning.columns == {
        "sensitivity at home": "0.860",
        "specificity at home": "0.840",
        "sensitivity on ISIC 2017": "0.610",
        "specificity on ISIC 2017": "0.900",
    }
    assert meaning.told(ROW) == [
        "malignant: 63.1 %, called malignant",
        "most probable: bcc, 40.0 %",
        "such decisions at home: sensitivity 0.86, specificity 0.84",
        "such decisions on ISIC 2017: sensitivity 0.61, specificity 0.90",
        "Research use only. Not a medical device.",
    ]


def test_another_operating_point_is_told_at_home_only_and_of_others_nothing():
    assert Meaning.of(model(0.088)).columns == {"sensitivity at home": "0.950", "specificity at home": "0.500"}
    unknown = Meaning.of(model(0.2))
    assert unknown.columns == {}
    assert "how often decisions at this threshold are right is not known" in unknown.told(ROW)


@pytest.mark.parametrize("classes", [("benign", "malignant"), ("other", "melanoma")])
def test_of_two_classes_the_decision_says_it_all_and_unfamiliarity_comes_first(classes):
    meaning = Meaning.of(model(0.3, classes), prevalence=0.02)
    told = meaning.told(ROW | {"familiar": "0", "novelty": "1.3123"})
    assert told[:2] == [
        "UNFAMILIAR IMAGE (novelty 1.3): what is said of it means little",
        f"{classes[1]}: 63.1 % at a prevalence of 2.0 %, called malignant",
    ]
    assert not any("most probable" in line for line in told)
