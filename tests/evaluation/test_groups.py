"""Groups whose names are missing would be one large group: every function that takes groups refuses them."""

import numpy as np
import pytest

from segfusion_jax.evaluation import bootstrap, calibration, sections, subgroups, weighted

LABELS, PROBABILITIES = np.array([0, 1, 0, 1]), np.array([0.1, 0.8, 0.3, 0.6])
STATISTIC = weighted.roc_auc(LABELS, PROBABILITIES)


class NA:
    """Like pandas' NA: neither equal nor unequal."""

    def __ne__(self, other):
        return self

    def __bool__(self):
        raise TypeError("boolean value of NA is ambiguous")

    def __repr__(self):
        return "NA"

    __hash__ = object.__hash__


FUNCTIONS = {
    "interval": lambda groups: bootstrap.interval(STATISTIC, groups, resamples=10),
    "entries": lambda groups: bootstrap.entries({"roc_auc": 0.5}, {"roc_auc": STATISTIC}, groups, resamples=10),
    "chance": lambda groups: calibration.calibrated_ece(PROBABILITIES, groups, resamples=10),
    "classification": lambda groups: sections.classification(LABELS, PROBABILITIES, groups, 0.5, resamples=10),
    "subgroups": lambda groups: subgroups.by_subgroup(
        {"sex": [*"ffmm"]}, LABELS, PROBABILITIES, 0.5, groups, min_size=1, min_class=1, resamples=10
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("missing", [None, "", " ", float("nan"), np.nan, "nan", "None", "<NA>", NA()], ids=repr)
def test_missing_names_are_refused_with_advice(name, missing):
    with pytest.raises(ValueError, match="groups: 2 of 4 are missing, first that of image 1, .* after the image"):
        FUNCTIONS[name](["a", missing, missing, "b"])


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("groups", [["a", "b", "c", "d"], [0, 1, 2, 2], np.arange(4.0)], ids=repr)
def test_names_of_any_kind_are_taken(name, groups):
    FUNCTIONS[name](groups)
