"""Finished runs side by side."""

import dataclasses
import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from segfusion_jax.config import Bridge, Config
from segfusion_jax.pipeline import comparison
from segfusion_jax.pipeline.run import Run
from tests.evaluation import delong

N = 300
LABELS = np.arange(N) % 3 == 0


def finished(folder, *, seed: int, strength: float, ids=range(N), threshold: float = 0.5, mode: str = "dim"):
    """A workdir with what the comparison reads; the probabilities tell the labels apart the better the stronger."""
    rng = np.random.default_rng(seed)
    labels = LABELS[: len(ids)]
    probabilities = 1 / (1 + np.exp(-(strength * (labels - 0.5) + rng.normal(size=len(ids)))))
    run = Run(dataclasses.replace(Config(), bridge=Bridge(mode=mode)), folder)
    run.write_settings({}, {})
    run.mark_done("evaluate", "of a test", 0)
    run.write_metrics({"classification": {"threshold": {"value": threshold}}})
    lines = [(f"I{i}", f"G{i // 2}", int(label), p) for i, label, p in zip(ids, labels, probabilities, strict=True)]
    rng.shuffle(lines)  # runs may have other orders
    run.write_predictions("predictions", ("image_id", "group", "label", "probability"), lines)
    dice = [(f"I{i}", f"G{i // 2}", 0.9) for i in list(ids)[::2]]
    run.write_scores(("image_id", "group", "dice"), dice)
    return run, probabilities


def test_differences_are_paired_and_agree_with_delong(tmp_path):
    (a, of_a), (b, of_b) = finished(tmp_path / "a", seed=1, strength=1), finished(tmp_path / "b", seed=1, strength=1.5)
    compared = comparison.compare({"a": [a], "b": [b]}, "a", resamples=500)
    assert "differences" not in compared["a"] and compared["a"]["n"] == N
    found = compared["b"]["differences"]["roc_auc"]
    expected = delong.compare(LABELS, of_b, of_a)  # of single images, where the groups here are pairs
    assert found["value"] == pytest.approx(expected.difference)
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high), abs=0.015)
    single = compared["b"]["metrics"]["roc_auc"]
    assert found["high"] - found["low"] < 0.7 * (single["high"] - single["low"])  # since both see the same noise
    assert compared["a"]["metrics"]["dice"]["value"] == pytest.approx(0.9)


def test_repeats_are_averaged(tmp_path):
    runs = [finished(tmp_path / str(seed), seed=seed, strength=1) for seed in range(3)]
    reference = finished(tmp_path / "reference", seed=9, strength=0)[0]
    compared = comparison.compare({"three": [run for run, _ in runs], "none": [reference]}, "none", resamples=100)
    areas = [roc_auc_score(LABELS, probabilities) for _, probabilities in runs]
    entry = compared["three"]["metrics"]["roc_auc"]
    assert compared["three"]["repeats"] == 3
    assert (entry["value"], entry["deviation"]) == pytest.approx((np.mean(areas), np.std(areas, ddof=1)))
    assert compared["three"]["differences"]["roc_auc"]["low"] > 0
    assert "better than 'none': three" in comparison.verdict(compared, "none")


def test_other_images_are_not_compared(tmp_path):
    a, b = (
        finished(tmp_path / "a", seed=1, strength=1)[0],
        finished(tmp_path / "b", seed=1, strength=1, ids=range(1, N))[0],
    )
    compared = comparison.compare({"a": [a], "b": [b]}, "a", resamples=100)
    assert "differences" not in compared["b"] and compared["b"]["n"] == N - 1
    comparison.write(tmp_path / "page", compared, "a", title="Two")
    assert "not compared with it: b" in (tmp_path / "page" / "summary.md").read_text()
    with pytest.raises(ValueError, match="the repeats of 'both' are of different test images"):
        comparison.compare({"both": [a, b]}, "both")


def test_masks_of_another_collection_are_not_compared(tmp_path):
    runs = [finished(tmp_path / str(seed), seed=seed, strength=1)[0] for seed in range(3)]
    for run in runs:
        run.write_scores(("image_id", "group", "dice"), [("H1", "H1", 0.9)])
    compared = comparison.compare({"two": runs[:2], "one": runs[2:]}, "one", resamples=100)
    assert "roc_auc" in compared["two"]["metrics"] and "dice" not in compared["two"]["metrics"]


def test_the_page_of_repeats_tells_how_much_seeds_matter(tmp_path):
    runs = [finished(tmp_path / str(seed), seed=seed, strength=1)[0] for seed in range(3)]
    compared = comparison.compare({"two": runs[:2], "one": runs[2:]}, "one", resamples=100)
    comparison.write(tmp_path / "page", compared, "one", title="Seeds")
    deviation = compared["two"]["metrics"]["roc_auc"]["deviation"]
    assert (
        f"Standard deviation of ROC-AUC among seeds: two {deviation:.3f}."
        in (tmp_path / "page" / "summary.md").read_text()
    )


def test_what_differs_is_told_beside_the_config(tmp_path):
    a, b, c = (finished(tmp_path / name, seed=1, strength=1)[0] for name in "abc")
    settings = json.loads((tmp_path / "b/config.json").read_text())
    versions = settings["versions"] | {"jax": "0.1"}
    files = {"data.root": "f" * 64}
    (tmp_path / "b/config.json").write_text(json.dumps(settings | {"versions": versions, "files": files}))
    found = comparison.compare({"a": [a], "b": [b]}, "a", resamples=100)
    assert found["b"]["fields"] == {"content of data.root": "f" * 16, "version of jax": "0.1"}
    comparison.write(tmp_path / "page", found, "a", title="Two")
    told = (tmp_path / "page/summary.md").read_text()
    assert "made of other files" in told and "made by other versions" in told
    comparison.write(tmp_path / "page", comparison.compare({"a": [a], "c": [c]}, "a", resamples=100), "a", title="Two")
    assert "Config, data and versions of all runs are the same." in (tmp_path / "page/summary.md").read_text()


def test_models_that_learned_little_are_named(tmp_path):
    a, b = (finished(tmp_path / name, seed=1, strength=strength)[0] for name, strength in (("a", 3), ("b", -1)))
    lines = [line | {"probability": str(0.3 + 0.01 * float(line["probability"]))} for line in b.read_predictions()]
    b.write_predictions("predictions", list(lines[0]), [list(line.values()) for line in lines])
    comparison.write(tmp_path / "page", comparison.compare({"a": [a], "b": [b]}, "a", resamples=100), "a", title="Two")
    told = (tmp_path / "page/summary.md").read_text()
    assert "is nearly chance: b." in told and "no better than chance: b." in told


def test_bad_input_is_named(tmp_path):
    a = finished(tmp_path / "a", seed=1, strength=1)[0]
    with pytest.raises(ValueError, match="reference = 'c': must be one of a"):
        comparison.compare({"a": [a]}, "c")
    with pytest.raises(FileNotFoundError, match="b: its stage 'evaluate' is not done"):
        comparison.compare({"a": [a], "b": [Run(Config(), tmp_path / "b")]}, "a")
