"""The figures of evaluate/figures that a run may have: titles and captions."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from segfusion_jax.report.blocks import Figure, Section

_TEXTS = {
    "roc_curve": ("ROC curve", "Test images; the dot is the threshold that was chosen on validation images."),
    "pr_curve": ("Precision and recall", "Test images; the line is the prevalence, which guessing reaches."),
    "decision_curve": (
        "Decision curve",
        "Net benefit of acting on the model, on everyone and on no one, by the probability from which one would act.",
    ),
    "probabilities": ("Predicted probabilities", "Test images, by label."),
    "reliability": ("Reliability", "How often what is predicted comes true, on test images; ideal is the diagonal."),
    "confusion_matrix": ("Confusion matrix", "Test images at the threshold that was chosen on validation images."),
    "diagnoses": ("Diagnoses", "Test images by their diagnosis and the one they are given, the most probable."),
    "classes": ("Classes", "Test images by their class and the one they are given, the most probable."),
    "false_negatives": (
        "Missed lesions",
        "Positive test images below the threshold, those with the lowest probability first.",
    ),
    "grad_cam": (
        "Where the classifier looks",
        "Grad-CAM of the surest and the least sure images of each side or class: what raised the score (red) and "
        "lowered it (blue), with the outline of the mask.",
    ),
    "overlays_worst": ("Worst segmentations", "Test images with the lowest overlap; predicted and annotated outlines."),
    "overlays_best": ("Best segmentations", "Test images with the highest overlap; predicted and annotated outlines."),
    "overlays_random": ("Segmentations drawn at random", "Test images; predicted and annotated outlines."),
    "bridge_panels": ("Data Processing Bridge", "Test images, their masks, and what the classifier sees."),
    "augmentation": ("Augmentation", "Training images, as they are, then augmented."),
    "subgroups": ("Subgroups", "ROC-AUC with 95 % intervals; the line is that of all test images."),
}
_PHOTOGRAPHS = (
    *("false_negatives", "grad_cam", "overlays_worst", "overlays_best", "overlays_random", "bridge_panels"),
    "augmentation",
)
_TRAINING = re.compile(r"training_curves_(classifier|unet)(?:_(\d+))?")


def shows_patients(path: Path) -> bool:
    """Returns whether a figure shows pictures of patients, as one may that this module does not know."""
    known = path.stem in _TEXTS or _TRAINING.fullmatch(path.stem)
    return not known or path.stem in _PHOTOGRAPHS


def copied(sections: Sequence[Section], folder: Path) -> list[Section]:
    """Returns the sections with copies of their figures in `folder`, each with the SVG beside it."""
    moved = []
    for section in sections:
        blocks = [_copied(block, folder) if isinstance(block, Figure) else block for block in section.blocks]
        moved.append(Section(section.title, blocks, section.intro))
    return moved


def _copied(figure: Figure, folder: Path) -> Figure:
    folder.mkdir(parents=True, exist_ok=True)
    for path in (figure.path, figure.path.with_suffix(".svg")):
        if path.exists():
            shutil.copyfile(path, folder / path.name)
    return figure._replace(path=folder / figure.path.name)


def find(folder: Path, names: Sequence[str]) -> list[Figure]:
    """Returns those of `names`, file names without '.png', that are there."""
    paths = (folder / f"{name}.png" for name in names)
    return [_figure(path) for path in paths if path.exists()]


def training(folder: Path) -> list[Figure]:
    """Returns the curves of all trainings, of the classifier first."""
    paths = (path for path in folder.glob("training_curves_*.png") if _TRAINING.fullmatch(path.stem))
    return [_figure(path) for path in sorted(paths, key=lambda path: _order(path.stem))]


def others(folder: Path) -> list[Figure]:
    """Returns the figures that this module does not know."""
    names = sorted(path.stem for path in folder.glob("*.png"))
    return find(folder, [name for name in names if name not in _TEXTS and not _TRAINING.fullmatch(name)])


def _order(name: str) -> tuple[str, int]:
    model, number = _TRAINING.fullmatch(name).groups()  # pyright: ignore[reportOptionalMemberAccess]
    return model, int(number or 0)


def _figure(path: Path) -> Figure:
    match = _TRAINING.fullmatch(path.stem)
    if match is None:
        return Figure(*_TEXTS.get(path.stem, (path.stem.replace("_", " ").capitalize(), "")), path)
    model, number = match.groups()
    if model == "unet":
        return Figure(f"Training of U-Net {number}", f"It never meets fold {number}.", path)
    if number is None:
        return Figure("Training of the classifier", "", path)
    return Figure(f"Training of classifier {number}", f"Chosen on fold {number}.", path)
