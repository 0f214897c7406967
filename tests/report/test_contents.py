import dataclasses
import itertools
import re

import pytest
from PIL import Image

from segfusion_jax.config import Config
from segfusion_jax.report import contents, page, results
from segfusion_jax.report.blocks import Figure, Flow, Table, Text
from segfusion_jax.report.cautions import cautions
from tests import tiny
from tests.report import sample
from tests.report.html_page import HtmlPage

OPTIONAL = (
    "uncalibrated",
    "calibration",
    "operating_points",
    "diagnosis",
    "diagnosis_equal_shares",
    "confusion",
    "subgroups",
    "explanation",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return sample.run(tmp_path_factory.mktemp("sample"))


def changed(run, **metrics):
    return dataclasses.replace(run, metrics=run.metrics | metrics)


def of_classification(run, **entries):
    return changed(run, classification=run.metrics["classification"] | entries)


def tables(run) -> dict[str, Table]:
    blocks = [block for section in contents.page(run).sections for block in section.blocks]
    return {block.title: block for block in blocks if isinstance(block, Table)}


def figures(run) -> list[str]:
    blocks = [block for section in contents.page(run).sections for block in section.blocks]
    return [block.path.stem for block in blocks if isinstance(block, Figure)]


def test_the_page_opens_with_the_verdict_and_shows_every_figure_once(run, tmp_path):
    page.write(tmp_path / "index.html", contents.page(run))
    shown = HtmlPage((tmp_path / "index.html").read_text())
    verdict = "Benign against malignant on 1,502 held-out images (19.5 % malignant), bridge mode 'dim': ROC-AUC 0.931"
    assert shown.text.index(verdict) < shown.text.index("Read this first") < shown.text.index("10,018 images found")
    assert sorted(figures(run)) == sorted(sample.FIGURES)
    assert figures(run).index("false_negatives") < figures(run).index("grad_cam") < figures(run).index("bridge_panels")
    assert [name for name in figures(run) if name.startswith("training")] == [
        "training_curves_classifier_0",
        "training_curves_classifier_1",
        "training_curves_unet_0",
        "training_curves_unet_1",
    ]


def test_predictive_values_at_other_prevalences_follow_bayes(run):
    entries = {"sensitivity": {"value": 0.9}, "specificity": {"value": 0.8}}
    table = tables(of_classification(run, **entries))["Predictive values at other prevalences"]
    values = {row[0]: row[1:] for row in table.rows}
    assert values["10 %"] == pytest.approx((0.09 / (0.09 + 0.18), 0.72 / (0.72 + 0.01)))


@pytest.mark.parametrize(
    ("found", "rejected", "dashes"), [(1.0, 0.0, ("npv",)), (0.0, 1.0, ("ppv",)), (1.0, 0.1, ()), (0.2, 1.0, ())]
)
def test_a_predictive_value_of_nothing_is_a_dash(run, found, rejected, dashes):
    values = {"sensitivity": {"value": found}, "specificity": {"value": rejected}}
    rates = values | {"ppv": {"value": 0.5}, "npv": {"value": 0.5}}
    points = [{"aim": "sensitivity", "level": 0.95, "threshold": 0.1} | rates]
    shown = tables(changed(of_classification(run, **values), operating_points=points))
    table = shown["Thresholds for an aim"]
    assert [name for name, cell in zip(("ppv", "npv"), table.rows[0][-2:], strict=True) if cell is None] == [*dashes]
    assert ("A dash" in table.note) == bool(dashes)
    elsewhere = shown["Predictive values at other prevalences"].rows
    assert all(
        [name for name, cell in zip(("ppv", "npv"), row[1:], strict=True) if cell is None] == [*dashes]
        for row in elsewhere
    )


def test_diagnoses_have_a_section_of_their_own_where_there_are_such(run):
    def titles(run):
        return [section.title for section in contents.page(run).sections if section.blocks]

    binary = {
        name: value
        for name, value in run.metrics.items()
        if name not in ("diagnosis", "diagnosis_equal_shares", "confusion")
    }
    assert "Diagnoses" in titles(run) and "Diagnoses" not in titles(dataclasses.replace(run, metrics=binary))


def test_a_calibration_error_is_compared_with_chance(run):
    page = contents.page(run)
    (section,) = (section for section in page.sections if section.title == "Calibration")
    assert any("would by chance be 0.010 to 0.035" in block.text for block in section.blocks if isinstance(block, Text))
    for value, said in ((0.2, True), (0.31, False)):
        chance = run.metrics["calibration"] | {"ece_by_chance": {"low": 0.1, "high": 0.3}}
        told = cautions(changed(of_classification(run, ece=sample.entry(value)), calibration=chance))
        assert any("(as large by chance alone" in caution for caution in told) == said


def test_the_verdict_tells_where_annotated_masks_come_from(run):
    verdict = contents.page(run).verdict
    assert "held-out images, before the bridge" in verdict
    config = tiny.config("isic2020")
    assert config.data.collections["ham10000"].use == "masks"
    verdict = contents.page(dataclasses.replace(run, config=config)).verdict
    assert "held-out images (annotated in ham10000), before the bridge" in verdict


def test_only_the_temperature_is_said_to_be_fitted(run):
    def told(shift):
        page = contents.page(changed(run, calibration=run.metrics["calibration"] | {"shift": shift}))
        (section,) = (section for section in page.sections if section.title == "Calibration")
        return next(block.text for block in section.blocks if isinstance(block, Text))

    assert "divided by 1.730 (temperature, fitted on 1,489 validation images)" in told([0.0])
    assert "shift" not in told([0.0]) and "Then -0.788 is added (shift, from the shares" in told([-0.788])


def test_the_share_of_unfamiliar_images_is_told_if_it_is_known(run):
    def told(run):
        (section,) = (section for section in contents.page(run).sections if section.title == "Classification")
        return [block.text for block in section.blocks if isinstance(block, Text)]

    (sentence,) = told(run)
    assert "test images 1.2 % (0.8 to 1.6) are flagged as unfamiliar" in sentence and "lets 99 % of the" in sentence
    never = run.metrics["novelty"] | {"flagged": {"value": 0.0}}
    assert "test images 0.0 % are flagged" in told(changed(run, novelty=never))[0]
    assert not told(dataclasses.replace(run, metrics={k: v for k, v in run.metrics.items() if k != "novelty"}))


def test_a_figure_that_nobody_knows_is_shown_too(tmp_path):
    run = sample.run(tmp_path)
    Image.new("RGB", (4, 4)).save(run.figures / "novelty_by_age.png")
    titles = {b.title for section in contents.page(run).sections for b in section.blocks if isinstance(b, Figure)}
    assert "Novelty by age" in titles


def flow(run) -> Flow:
    (found,) = (block for section in contents.page(run).sections for block in section.blocks if isinstance(block, Flow))
    return found


def without_unused(run):
    splits = {name: counts for name, counts in run.audit["splits"].items() if name != "unused"}
    return audited(run, splits=splits, images=10012)


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        (lambda run: run, [10018, 10015, 10012]),
        (lambda run: audited(run, left_out={}), [10015, 10012]),
        (without_unused, [10015, 10012]),
        (lambda run: audited(without_unused(run), left_out={}), [10012]),
    ],
)
def test_the_flow_adds_up(run, change, counts):
    steps, parts = flow(change(run)).steps, flow(change(run)).parts
    assert [step.count for step in steps] == counts
    for step, following in itertools.pairwise([*steps, sum(part.count for part in parts)]):
        after = following if isinstance(following, int) else following.count
        assert step.count - sum(step.leaving.values()) == after


@pytest.mark.parametrize("missing", [*((name,) for name in OPTIONAL), OPTIONAL])
def test_what_metrics_lack_is_left_out(run, tmp_path, missing):
    metrics = {name: value for name, value in run.metrics.items() if name not in missing}
    page.write(tmp_path / "index.html", contents.page(dataclasses.replace(run, metrics=metrics)))
    HtmlPage((tmp_path / "index.html").read_text())


def test_a_run_without_masks_figures_and_failures(run, tmp_path):
    bare = dataclasses.replace(
        changed(run, segmentation={}), overlaps=[], predictions=[], figures=tmp_path / "none", facts={}
    )
    page.write(tmp_path / "index.html", contents.page(bare))
    shown = HtmlPage((tmp_path / "index.html").read_text())
    assert "img" not in shown.tags and "Dice" not in shown.text[: shown.text.index("Data")]
    assert not {"Failed segmentations", "Misclassified", "Segmentation metrics"} & set(tables(bare))


def test_misclassified_images_are_those_on_the_wrong_side_missed_ones_first(run):
    rows = tables(run)["Misclassified"].rows
    assert len(rows) == 20 and [row[2] for row in rows] == ["malignant"] * 10 + ["benign"] * 10
    assert all((row[3] >= 0.31) == (row[2] == "benign") for row in rows)
    distances = [abs(row[3] - 0.31) for row in rows]
    assert distances == sorted(distances[:10], reverse=True) + sorted(distances[10:], reverse=True)


def test_an_image_at_the_threshold_is_called_positive(run):
    lines = [run.predictions[0] | {"image_id": f"at_{label}", "label": label, "probability": "0.31"} for label in "01"]
    assert [row[0] for row in tables(dataclasses.replace(run, predictions=lines))["Misclassified"].rows] == ["at_0"]


def test_failed_segmentations_are_those_below_the_limit_worst_first(run):
    table = tables(run)["Failed segmentations"]
    jaccards = [row[3] for row in table.rows]
    assert jaccards == sorted(float(line["jaccard"]) for line in run.overlaps if float(line["jaccard"]) < 0.65)
    many = dataclasses.replace(run, overlaps=[line | {"jaccard": "0.1"} for line in run.overlaps])
    cut = tables(many)["Failed segmentations"]
    assert len(cut.rows) == results.NUM_FAILURES and cut.note.startswith("50 of 150 ")


def test_withheld_subgroups_say_so_and_nothing_else(run):
    rows = {row[0]: row[1:] for row in tables(run)["Subgroups"].rows}
    assert rows["site: acral (withheld)"] == (12, 2, 9, None, None, None, None, None)
    assert rows["sex: male"][:3] == (780, 156, 585) and rows["sex: male"][3].value == 0.932


def test_confusion_tells_the_share_that_is_right(run):
    rows = {row[0]: row[1:] for row in tables(run)["Confusion"].rows}
    given = run.metrics["confusion"]["melanoma"]
    assert rows["melanoma"] == (*given.values(), pytest.approx(400 / sum(given.values())))


def test_resamples_without_a_value_are_told_below_the_table(run):
    entry = sample.entry(0.9, undefined=12)
    table = tables(of_classification(run, pr_auc=entry))["Classification metrics"]
    assert table.note.endswith("passes over: PR-AUC (average precision) in 12.")


def audited(run, **audit):
    return dataclasses.replace(run, audit=run.audit | audit)


def leaking(run):
    relatives = run.audit["relatives_in_training"]
    here = relatives["this_split"] | {"any of these": 0.385}
    return audited(run, relatives_in_training=relatives | {"this_split": here})


def with_config(run, config: Config):
    return dataclasses.replace(run, config=config)


def with_subgroup(run, high: float, withheld: bool = False):
    group = {"fact": "age", "value": "under 40", "n": 60, "positives": 9, "groups": 60, "withheld": withheld}
    measured = {"roc_auc": {"value": 0.8, "low": 0.7, "high": high}}
    return changed(run, subgroups=[group | {"classification": measured, "segmentation": {}}])


def explained(run, low: float):
    excess = {"value": 0.06, "low": low, "high": 0.1}
    return changed(run, explanation={"inside_share": {"value": 0.3}, "area_share": {"value": 0.24}, "excess": excess})


NOT = "nothing of the kind"
CAUTIONS = {
    "leak": (leaking, "38.5 % of test images have a relative in training or validation"),
    "no leak": (lambda run: run, "would have put one there for 39.2 % of them"),
    "shortcut": (lambda run: run, "Confirmation alone tells malignant from benign with a ROC-AUC of 0.78: a shortcut."),
    "left out": (lambda run: run, "Left out as unusable: 2 absent, 1 damaged; prepare/problems.csv lists them."),
    "fallbacks": (
        lambda run: run,
        "72 of 10,012 images had no usable mask: of these the classifier saw the whole image.",
    ),
    "synthetic": (lambda run: with_config(run, tiny.BASE), "say nothing about patients"),
    "annotated": (lambda run: with_config(run, tiny.config(bridge__masks="annotated")), "given annotated masks, which"),
    "threshold": (lambda run: of_classification(run, threshold={"value": 0.0}), "everything is called malignant"),
    "chance": (lambda run: of_classification(run, roc_auc=sample.entry(0.52, 0.02)), "no better than chance"),
    "few positives": (
        lambda run: of_classification(run, prevalence={"value": 0.06}, sensitivity=sample.entry(0.8, 0.1)),
        "within 0.10 either way, by 90 test images that are malignant; to know it within 0.05, some 360 would",
    ),
    "calibration": (lambda run: of_classification(run, ece=sample.entry(0.101)), "calibration error 0.10."),
    "subgroup": (lambda run: with_subgroup(run, 0.93), "Where age is under 40 (60 images), the ROC-AUC is 0.800"),
    "explanation": (lambda run: explained(run, 0.0), "(Grad-CAM) 30 % lies within the lesion, which covers 24 %"),
    "promised": (
        lambda run: changed(run, validation={"roc_auc": {"value": 0.99}}),
        "On the validation images, which chose weights and thresholds, the ROC-AUC is 0.990, above the interval",
    ),
    "worse calibrated": (
        lambda run: changed(of_classification(run, log_loss={"value": 0.5}), uncalibrated={"log_loss": {"value": 0.4}}),
        "made the test images' probabilities worse: log loss 0.400 before, 0.500 after.",
    ),
    "undefined": (
        lambda run: of_classification(run, roc_auc=sample.entry(0.9, undefined=7)),
        "In some of 2,000 resamples a metric had no value, and its interval passes over them: ROC-AUC (7).",
    ),
}


@pytest.mark.parametrize("name", CAUTIONS)
def test_a_caution_is_given(run, name):
    change, said = CAUTIONS[name]
    assert any(said in caution for caution in cautions(change(run)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (leaking, "would have put"),
        (lambda run: run, "relative in training or validation: the same"),
        (lambda run: run, "Width alone"),
        (lambda run: audited(run, left_out={}), "Left out"),
        (lambda run: run, "nothing about patients"),
        (lambda run: run, "annotated masks"),
        (lambda run: of_classification(run, threshold={"value": 0.01}), "everything is called"),
        (lambda run: of_classification(run, roc_auc=sample.entry(0.53, 0.02)), "chance"),
        (lambda run: of_classification(run, roc_auc={"value": 0.5}), "chance"),
        (lambda run: of_classification(run, prevalence={"value": 100 / 1502}), "Only"),
        (lambda run: of_classification(run, ece=sample.entry(0.1)), "calibration error"),
        (lambda run: with_subgroup(run, 0.931), "Where age"),
        (lambda run: with_subgroup(run, 0.9, withheld=True), "Where age"),
        (lambda run: explained(run, 0.001), "Grad-CAM"),
        (lambda run: run, "resamples"),
    ],
)
def test_a_caution_is_not_given(run, change, said):
    assert not [caution for caution in cautions(change(run)) if said in caution]


def test_the_gravest_cautions_come_first(run):
    said = cautions(leaking(with_config(run, tiny.BASE)))
    assert "patients" in said[0] and "leaks" in said[1] and "no usable mask" in said[-1]


def test_sides_are_called_what_they_are(run, tmp_path):
    page.write(tmp_path / "index.html", contents.page(dataclasses.replace(run, binary_names=("other", "melanoma"))))
    shown = HtmlPage((tmp_path / "index.html").read_text()).text
    assert "Other against melanoma on" in shown and "Probability of 'melanoma'" in shown
    assert re.search(r"ISIC_\d+ ISIC_\d+ other 0\.\d", shown)


def test_what_each_collection_reaches_stands_beside_the_others(run):
    full = {"classification": {"roc_auc": sample.entry(0.91), "sensitivity": sample.entry(0.8)}}
    found = {"isic2017": full | {"segmentation": {"dice": sample.entry(0.92)}}, "isic2020": {}}
    table = tables(changed(run, collections=found))["By collection"]
    row = dict(zip(table.headings, table.rows[0], strict=True))
    assert row["Collection"] == "isic2017" and row["ROC-AUC, malignant"].value == 0.91 and row["Dice"].value == 0.92
    assert row["ROC-AUC, melanoma"] is None and table.rows[1] == ("isic2020", *[None] * (len(table.headings) - 1))
    assert "By collection" not in tables(run)
