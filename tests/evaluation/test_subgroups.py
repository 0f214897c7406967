import numpy as np
import pytest
from sklearn import metrics as sk_metrics

from segfusion_jax.evaluation import bootstrap, subgroups, weighted


@pytest.mark.parametrize(
    ("age", "band"),
    [
        (0, "under 30"),
        (29.9, "under 30"),
        (30, "30 to 44"),
        (45, "45 to 59"),
        (60, "60 to 74"),
        (75, "75 and over"),
        (90, "75 and over"),
        (float("nan"), "unknown"),
    ],
)
def test_age_bands(age, band):
    assert subgroups.age_band(age) == band


def test_size_bands():
    sizes = [(600, 450), (1024, 1024), (1920, 1080), (6000, 4000)]
    assert [subgroups.size_band(*size) for size in sizes] == [
        "under 0.5 MP",
        "0.5 to 2 MP",
        "2 to 8 MP",
        "8 MP and over",
    ]
    with pytest.raises(ValueError, match="0 x 10 pixels"):
        subgroups.size_band(0, 10)
    with pytest.raises(ValueError, match="age = -1"):
        subgroups.age_band(-1)


def simulate(n: int = 300):
    generator = np.random.default_rng(0)
    labels = generator.random(n) < 0.4
    probabilities = generator.random(n) * 0.6 + 0.3 * labels
    sex = np.where(np.arange(n) % 3 == 0, "female", "male").tolist()
    ages = [subgroups.age_band(age) for age in generator.choice([20.0, 40, 80, np.nan], n)]
    groups = [f"lesion {i // 2}" for i in range(n)]
    return {"sex": sex, "age": ages}, labels, probabilities, groups


def test_a_subgroup_is_judged_as_if_it_were_alone():
    facts, labels, probabilities, groups = simulate()
    per_image = [{"jaccard": j, "dice": 2 * j / (1 + j)} if i % 2 else None for i, j in enumerate(probabilities)]
    found = subgroups.by_subgroup(facts, labels, probabilities, 0.5, groups, resamples=200, seed=7, per_image=per_image)
    assert [(entry["fact"], entry["value"]) for entry in found] == [
        ("sex", "female"),
        ("sex", "male"),
        ("age", "under 30"),
        ("age", "30 to 44"),
        ("age", "75 and over"),
        ("age", "unknown"),
    ]
    female = np.flatnonzero(np.array(facts["sex"]) == "female")
    entry, mine = found[0], [groups[i] for i in female]
    assert (entry["n"], entry["positives"], entry["groups"]) == (100, labels[female].sum(), len(set(mine)))
    assert not entry["withheld"]
    statistic = weighted.roc_auc(labels[female], probabilities[female])
    low, high, _ = bootstrap.interval(statistic, mine, resamples=200, seed=7)
    area = sk_metrics.roc_auc_score(labels[female], probabilities[female])
    assert entry["classification"]["roc_auc"] == pytest.approx({"value": area, "low": low, "high": high})
    recall = sk_metrics.recall_score(labels[female], probabilities[female] >= 0.5)
    assert entry["classification"]["sensitivity"]["value"] == pytest.approx(recall)
    assert entry["classification"].keys() == {"roc_auc", "sensitivity", "specificity"}
    masked = [per_image[i] for i in female if i % 2]
    assert entry["segmentation"]["dice"]["value"] == pytest.approx(np.mean([scores["dice"] for scores in masked]))
    failed = np.mean([scores["jaccard"] < 0.65 for scores in masked])
    assert entry["segmentation"]["failure_rate"]["value"] == pytest.approx(failed)
    assert found[1]["segmentation"].keys() == {"dice", "failure_rate"}


def test_small_subgroups_tell_their_size_only():
    facts, labels, probabilities, groups = simulate()
    per_image = [{"jaccard": 0.7, "dice": 0.8}] * 60 + [None] * 240
    found = subgroups.by_subgroup(
        {"sex": facts["sex"]}, labels, probabilities, 0.5, groups, min_size=101, resamples=100, per_image=per_image
    )
    female, male = found
    assert female["withheld"] and female["n"] == 100
    assert female["classification"] == female["segmentation"] == male["segmentation"] == {}
    assert not male["withheld"] and male["classification"]
    female, _ = subgroups.by_subgroup(
        {"sex": facts["sex"]}, labels, probabilities, 0.5, groups, min_size=100, resamples=9
    )
    assert not female["withheld"] and female["classification"]


def test_one_class_and_one_group_keep_what_is_defined():
    labels, probabilities = np.array([0, 0, 0, 1, 1, 1]), np.array([0.1, 0.2, 0.7, 0.3, 0.8, 0.9])
    facts = {"site": ["back"] * 3 + [""] * 3, "camera": ["a"] * 6}
    found = subgroups.by_subgroup(
        facts, labels, probabilities, 0.5, list("abcddd"), min_size=1, min_class=1, resamples=100
    )
    back, unknown = found  # one camera is no fact
    assert back["value"] == "back" and unknown["value"] == "unknown"
    assert back["classification"]["specificity"] == pytest.approx({"value": 2 / 3, "low": 0, "high": 1})
    assert back["classification"].keys() == {"specificity"}
    assert unknown["classification"] == {"sensitivity": {"value": pytest.approx(2 / 3)}}


def test_nothing_is_told_of_a_rare_class():
    labels = np.arange(80) < 9
    probabilities = np.linspace(1, 0, 80)
    facts = {"site": ["back"] * 60 + ["face"] * 20}
    found, _ = subgroups.by_subgroup(facts, labels, probabilities, 0.5, list(range(80)), resamples=100)
    assert (found["n"], found["positives"], found["withheld"]) == (60, 9, False)
    assert found["classification"].keys() == {"specificity"}
    found, _ = subgroups.by_subgroup(facts, labels, probabilities, 0.5, list(range(80)), min_class=9, resamples=100)
    assert found["classification"].keys() == {"roc_auc", "sensitivity", "specificity"}


@pytest.mark.parametrize("name", ["facts", "groups", "per_image"])
def test_what_is_not_aligned_is_refused(name):
    arguments = {"facts": {"sex": ["a", "b"]}, "groups": ["g", "h"], "per_image": [None, None]}
    arguments[name] = {"sex": ["a"]} if name == "facts" else ["g"]
    with pytest.raises(ValueError, match=f"{name}.* has 1 values: must be one for each of 2 images"):
        subgroups.by_subgroup(labels=np.array([0, 1]), probabilities=np.array([0.1, 0.9]), threshold=0.5, **arguments)
