"""What reviewers ask for (CLAIM, 2024 update; TRIPOD+AI), answered as far as a run can.

CLAIM: Tejani et al., Radiology: Artificial Intelligence 6(4), 2024. TRIPOD+AI: Collins et al., BMJ 385, 2024. Topics
and answers are in our own words.
"""

import dataclasses
from collections.abc import Iterator

from segfusion_jax.config import Augmentation, Training
from segfusion_jax.report.blocks import percent
from segfusion_jax.report.finished_run import FinishedRun

ANSWERED, PARTLY, AUTHORS = "answered by this run", "partly", "for the authors"


@dataclasses.dataclass(frozen=True)
class Item:
    """A topic that a paper must speak of.

    Attributes:
      topic: what it is about, in short.
      guidelines: the guidelines that ask for it; TRIPOD+AI with the item's number.
      status: ANSWERED, PARTLY or AUTHORS.
      answer: text of what the run knows, and of what is left to say.
    """

    topic: str
    guidelines: str
    status: str
    answer: str


def checklist(run: FinishedRun) -> list[Item]:
    """Returns the items in the order of a paper."""
    return [*_study(run), *_data(run), *_models(run), *_analysis(run), *_results(run), *_openness(run)]


def _study(run: FinishedRun) -> Iterator[Item]:
    yield Item(
        "Clinical question and intended use",
        "CLAIM; TRIPOD+AI 3, 4, 27",
        AUTHORS,
        "Who would use the model, on whom, at which point of care. This software is for research use only.",
    )
    yield Item("Ethics approval, consent, de-identification", "CLAIM; TRIPOD+AI 17", AUTHORS, "Unknown to the run.")
    yield Item("Protocol, registration, funding, interests", "CLAIM; TRIPOD+AI 18", AUTHORS, "Unknown to the run.")
    yield Item("Patient and public involvement", "TRIPOD+AI 19", AUTHORS, "Unknown to the run.")


def _data(run: FinishedRun) -> Iterator[Item]:
    audit, data, splits = run.audit, run.config.data, run.config.splits
    yield Item(
        "Source of the data",
        "CLAIM; TRIPOD+AI 5, 6",
        PARTLY,
        f"{run.collection}: {run.address}. Dates, places, and how patients came to be in it: to add.",
    )
    left_out = ", ".join(f"{count} {kind}" for kind, count in audit["left_out"].items()) or "none"
    unused = audit["splits"].get("unused", {}).get("images", 0)
    yield Item(
        "Eligibility and exclusions",
        "CLAIM; TRIPOD+AI 6",
        PARTLY,
        f"Unusable files left out: {left_out}. Usable but unused (duplicates, contradictions): {unused:,}. The "
        "publisher's own criteria: to add.",
    )
    yield Item("Preparation of the images", "CLAIM; TRIPOD+AI 7", ANSWERED, _preparation(run))
    masked = sum(counts["with_mask"] for counts in audit["splits"].values())
    yield Item(
        "Reference standard",
        "CLAIM; TRIPOD+AI 8",
        PARTLY,
        f"Labels as published, {' against '.join(run.binary_names)} (data.target '{data.target}'; classes "
        f"{', '.join(run.classes)}); {masked:,} images with an annotated mask. Who annotated, by what means and with "
        "what agreement: to add.",
    )
    yield Item(
        "Agreement between annotators",
        "CLAIM",
        AUTHORS,
        "Each image has one label and at most one mask; their variability is not known.",
    )
    yield Item(
        "Sample size",
        "CLAIM; TRIPOD+AI 10",
        PARTLY,
        f"All usable images were used; {run.num_test:,} test images, "
        f"{run.num_positive:,} of them {run.binary_names[1]}. No size was calculated beforehand; "
        "the intervals say what it is enough for.",
    )
    unlabelled = sum(counts["targets"].get("none", 0) for counts in audit["splits"].values())
    yield Item(
        "Missing data",
        "CLAIM; TRIPOD+AI 11",
        ANSWERED,
        f"Images without a label ({unlabelled:,}) take no part in classification, those without an annotated mask "
        "none in the U-Nets' training. Age, sex and site are no predictors; nothing is imputed.",
    )
    here = audit["relatives_in_training"]["this_split"]["any of these"]
    unit = "group (equal or near-equal picture, lesion, patient)" if splits.protocol == "grouped" else "image"
    yield Item(
        "Data partitions and their unit",
        "CLAIM; TRIPOD+AI 12",
        ANSWERED,
        f"Divided by {unit}, stratified by collection and class, protocol '{splits.protocol}', seed {splits.seed}: "
        f"{_parts(run)}. Test images with relatives in training or validation: {percent(here)}. prepare/splits.csv "
        "lists every image.",
    )


def _preparation(run: FinishedRun) -> str:
    data, bridge = run.config.data, run.config.bridge
    unet, classifier = run.config.segmenter.image_size, run.config.classifier.image_size
    return (
        f"Stored within {data.size[0]} x {data.size[1]} pixels (height x width; aspect '{data.aspect}', filter "
        f"'{data.resampling}'). The U-Net sees {unet[0]} x {unet[1]}, the classifier {classifier[0]} x {classifier[1]} "
        f"after the bridge, mode '{bridge.mode}', masks '{bridge.masks}'."
    )


def _parts(run: FinishedRun) -> str:
    splits = run.audit["splits"]
    names = [name for name in ("train", "validation", "test") if name in splits]
    return ", ".join(f"{name} {splits[name]['images']:,} images of {splits[name]['groups']:,} groups" for name in names)


def _models(run: FinishedRun) -> Iterator[Item]:
    config = run.config
    unet, classifier, folds = config.segmenter, config.classifier, config.splits.num_folds
    encoder = f"with encoder {unet.encoder}" if unet.encoder else f"of {unet.filters} filters at full size"
    yield Item(
        "Models",
        "CLAIM; TRIPOD+AI 12, 22",
        ANSWERED,
        f"U-Net {encoder}; classifier {classifier.backbone}, width {classifier.width:g}, depth {classifier.depth:g}; "
        "model/metadata.json has every field.",
    )
    yield Item(
        "Initial weights",
        "CLAIM",
        ANSWERED,
        f"U-Net's encoder: {unet.pretrained or 'random'}; classifier: {classifier.pretrained or 'random'}; seed "
        f"{config.seed}.",
    )
    yield Item(
        "Training",
        "CLAIM; TRIPOD+AI 12",
        ANSWERED,
        f"U-Nets: loss '{unet.loss}', {_training(unet.training)}, {_augmentation(unet.augmentation)}. Classifier: loss "
        f"'{classifier.loss}', {_training(classifier.training)}, {_augmentation(classifier.augmentation)}.",
    )
    yield Item(
        "Class imbalance",
        "TRIPOD+AI 13",
        ANSWERED,
        f"Class weights '{classifier.class_weights}', sampling '{classifier.training.sampling}'.",
    )
    chosen = (
        "classifier k's by ROC-AUC on fold k"
        if classifier.fold_ensemble
        else "the classifier's by ROC-AUC on validation images"
    )
    yield Item(
        "Choice of the final models",
        "CLAIM; TRIPOD+AI 12",
        PARTLY,
        f"Weights of the best epoch: U-Net k's by Dice on validation images outside fold k, {chosen}. Test images took "
        "no part. How the settings were arrived at, and how often these test images were looked at: to add.",
    )
    judged = f"the mean of {folds} classifiers" if classifier.fold_ensemble else "one classifier"
    yield Item(
        "Ensembles",
        "CLAIM",
        ANSWERED,
        f"Masks of test images are the mean of {folds} U-Nets, all others come from the one U-Net that never saw their "
        f"group; {judged}. Test-time augmentation: {unet.test_time_augmentation} orientations of an "
        f"image averaged by the U-Nets, {classifier.test_time_augmentation} by the classifier.",
    )


def _training(training: Training) -> str:
    return (
        f"{training.epochs} epochs, batches of {training.batch_size}, {training.optimizer}, learning rate "
        f"{training.learning_rate:g} ({training.schedule}), weight decay {training.weight_decay:g}"
    )


def _augmentation(drawn: Augmentation) -> str:
    flips = [name for name in ("horizontal", "vertical") if getattr(drawn, f"flip_{name}")]
    return (
        f"rotated up to {drawn.rotation:g}°, shifted up to {percent(drawn.shift_height, 0)} and "
        f"{percent(drawn.shift_width, 0)}, zoomed up to {percent(drawn.zoom, 0)}, flipped: "
        f"{', '.join(flips) or 'never'}"
    )


def _analysis(run: FinishedRun) -> Iterator[Item]:
    metrics = run.metrics
    yield Item(
        "Output and threshold",
        "TRIPOD+AI 15",
        ANSWERED,
        f"A probability of '{run.binary_names[1]}'; threshold {run.threshold:.3f}, the best balanced accuracy on "
        f"validation images. {len(metrics.get('operating_points', []))} more thresholds for aims of sensitivity or "
        "specificity.",
    )
    yield Item(
        "Metrics and uncertainty",
        "CLAIM; TRIPOD+AI 12",
        ANSWERED,
        f"95 % percentile intervals over {run.config.evaluation.resamples:,} bootstrap resamples of whole groups, "
        "not of images. Why these metrics matter for the question: to add.",
    )
    scaling = metrics.get("calibration")
    fitted = f"Temperature fitted on {scaling['fitted_on']:,} validation images. " if scaling else ""
    measured = "ece" in metrics["classification"]
    yield Item(
        "Calibration",
        "TRIPOD+AI 12, 23",
        ANSWERED if measured else PARTLY,
        fitted
        + ("Error, Brier score and reliability on test images." if measured else "Brier score and log loss only."),
    )
    explained = bool(metrics.get("explanation"))
    yield Item(
        "Explanation of decisions",
        "CLAIM",
        PARTLY if explained else AUTHORS,
        "Grad-CAM, and the share of evidence within the lesion; no reader has judged the maps."
        if explained
        else "None.",
    )
    yield Item("Robustness to disturbed input", "CLAIM", AUTHORS, "Not analysed by this run.")
    yield Item(
        "Comparison with clinicians or other models",
        "CLAIM",
        AUTHORS,
        "Not part of this run; another run on the same split can be compared with it.",
    )


def _results(run: FinishedRun) -> Iterator[Item]:
    metrics = run.metrics
    related = run.audit["relatives_in_training"]["this_split"]["any of these"]
    unseen = (
        f"but {percent(related)} have relatives in training or validation"
        if related
        else "never used before the evaluation"
    )
    yield Item(
        "Flow of images; who they are of",
        "CLAIM; TRIPOD+AI 20",
        PARTLY,
        "The flow from files to splits is above. Ages, sexes and sites: in prepare/splits.csv where published, to "
        "tabulate.",
    )
    yield Item(
        "Internal test",
        "CLAIM; TRIPOD+AI 16, 23",
        ANSWERED,
        f"{run.num_test:,} held-out images of the same collection, {percent(run.prevalence)} {run.binary_names[1]}, "
        + ("its official test set." if run.config.splits.official_test else f"{unseen}."),
    )
    yield Item(
        "External test",
        "CLAIM; TRIPOD+AI 16",
        AUTHORS,
        "None in this run: images of other clinics or devices are needed, and results there are usually worse.",
    )
    subgroups = metrics.get("subgroups", [])
    told = [group for group in subgroups if not group["withheld"]]
    tone = "" if any(group["fact"] == "skin tone" for group in subgroups) else " Skin tone is not known."
    yield Item(
        "Subgroups and fairness",
        "CLAIM; TRIPOD+AI 14, 23",
        PARTLY if told else AUTHORS,
        f"{len(told)} subgroups by {', '.join(dict.fromkeys(group['fact'] for group in told))}; "
        f"{len(subgroups) - len(told)} too small.{tone}"
        if told
        else f"No subgroup was measured.{tone}",
    )
    yield Item(
        "Failure analysis",
        "CLAIM",
        PARTLY,
        "Misclassified images and failed segmentations are listed by id, missed ones first. Why they fail: to say.",
    )
    yield Item(
        "Limitations and interpretation",
        "CLAIM; TRIPOD+AI 25, 26",
        PARTLY,
        "'Read this first', at the top, has what the run found against itself; the rest is for the authors.",
    )


def _openness(run: FinishedRun) -> Iterator[Item]:
    yield Item(
        "Weights and full specification",
        "CLAIM; TRIPOD+AI 22",
        ANSWERED,
        "The folder model/ has all weights, the config, classes, threshold and calibration. Where it is published: "
        "to add.",
    )
    yield Item(
        "Code, software and hardware",
        "CLAIM; TRIPOD+AI 18",
        PARTLY,
        "Config, versions, devices and times are below. Address and commit of the code: to add.",
    )
    yield Item(
        "Availability of the data",
        "CLAIM; TRIPOD+AI 18",
        PARTLY,
        f"{run.collection}: {run.address}. prepare/splits.csv has the split; licences: to add.",
    )
