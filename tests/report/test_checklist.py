import collections
import dataclasses

import pytest

from segfusion_jax.report.checklist import ANSWERED, AUTHORS, PARTLY, checklist
from tests import tiny
from tests.report import sample


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return sample.run(tmp_path_factory.mktemp("sample"))


def items(run):
    return {item.topic: item for item in checklist(run)}


def test_every_topic_once_with_a_status_and_an_answer(run):
    given = checklist(run)
    assert collections.Counter(item.topic for item in given).most_common(1)[0][1] == 1
    assert {item.status for item in given} == {ANSWERED, PARTLY, AUTHORS}
    assert all(item.answer and item.guidelines.startswith(("CLAIM", "TRIPOD+AI")) for item in given)


def test_answers_are_this_runs(run):
    given = items(run)
    assert "train 7,012 images of 5,190 groups" in given["Data partitions and their unit"].answer
    assert "Divided by group" in given["Data partitions and their unit"].answer
    assert "threshold 0.310" in given["Output and threshold"].answer
    assert "over 2,000 bootstrap resamples" in given["Metrics and uncertainty"].answer
    assert "Temperature fitted on 1,489 validation images" in given["Calibration"].answer
    assert (
        "the mean of 3 classifiers" in given["Ensembles"].answer and "8 by the classifier" in given["Ensembles"].answer
    )
    assert "5 subgroups by sex, age, site; 2 too small" in given["Subgroups and fairness"].answer
    single = items(dataclasses.replace(run, config=tiny.config("ham10000", splits__protocol="by_image")))
    assert "Divided by image" in single["Data partitions and their unit"].answer
    assert "; one classifier." in single["Ensembles"].answer


def test_skin_tone_is_unknown_unless_it_is_a_subgroup(run):
    topic = "Subgroups and fairness"
    assert "Skin tone is not known" in items(run)[topic].answer
    tones = [group | {"fact": "skin tone"} for group in run.metrics["subgroups"][:2]]
    told = items(dataclasses.replace(run, metrics=run.metrics | {"subgroups": tones}))
    assert "2 subgroups by skin tone" in told[topic].answer and "not known" not in told[topic].answer


def test_test_images_with_kin_in_training_are_not_called_unused(run):
    relatives = run.audit["relatives_in_training"]
    leaks, clean = (
        relatives | {"this_split": relatives["this_split"] | {"any of these": share}} for share in (0.41, 0.0)
    )
    for relatives_found, told in (
        (leaks, "but 41.0 % have relatives in training or validation."),
        (clean, "never used before the evaluation."),
    ):
        audit = run.audit | {"relatives_in_training": relatives_found}
        assert items(dataclasses.replace(run, audit=audit))["Internal test"].answer.endswith(told)


def test_what_a_run_cannot_know_is_for_the_authors(run):
    given = items(run)
    for topic in ("External test", "Ethics approval, consent, de-identification", "Agreement between annotators"):
        assert given[topic].status == AUTHORS
    bare = {name: run.metrics[name] for name in ("classification", "segmentation")}
    less = items(dataclasses.replace(run, metrics=bare))
    assert given["Subgroups and fairness"].status == PARTLY and less["Subgroups and fairness"].status == AUTHORS
    assert given["Explanation of decisions"].status == PARTLY and less["Explanation of decisions"].status == AUTHORS
