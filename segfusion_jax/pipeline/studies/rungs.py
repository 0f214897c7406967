"""The rungs of the ladder of leaks: which images a trained run is tested on, and what is said of them."""

import collections
import dataclasses
import logging
import pathlib
from collections.abc import Callable, Iterable
from typing import Self

import numpy as np

from segfusion_jax.bridge.resize import resize
from segfusion_jax.datasets.prepared import Prepared, load_dataset
from segfusion_jax.datasets.table import Part, Row
from segfusion_jax.datasets.unseen import unseen
from segfusion_jax.evaluation.neighbours import recall
from segfusion_jax.input import decode, mask_store
from segfusion_jax.input.examples import Examples
from segfusion_jax.input.mask_store import MaskStore
from segfusion_jax.pipeline import released
from segfusion_jax.pipeline.run import Run
from segfusion_jax.pipeline.stages.bridge import masks_of
from segfusion_jax.runtime.atomic import read_table, write_table
from segfusion_jax.serving.ensembles import malignant_probability
from segfusion_jax.training import steps
from segfusion_jax.training.predict import predict

_log = logging.getLogger(__name__)

RUNGS = {
    "paper": "The paper's: copies of every image on both sides",
    "by_image": "Copies stay together, lesions part",
    "grouped": "Lesions stay together",
    "natural": "Malignant at their natural share",
    "elsewhere": "Images of another origin",
}
"""From the paper's protocol to the honest one, each one change from the rung before. The last three are the same models
on other images."""

ELSEWHERE = {"ham10000": "isic2017", "isic2019": "isic2020", "isic2020": "isic2017"}
"""The collection of another origin, found in the folders of SEGFUSION_DATA."""

PAPERS_MODE = "dim"
"""The bridge that the paper draws."""

MEMORIES = {"thumbnails": "Nearest thumbnail, 16x16 pixels", "features": "Nearest by ImageNet features"}
"""What has learned nothing of lesions, and says of an image what the most similar training image is."""

_THUMBNAIL = (16, 16)


@dataclasses.dataclass(frozen=True)
class Test:
    """Images to be tested on.

    Attributes:
      prepared: holds them.
      rows: which they are; all are labelled.
      masks: their masks for the bridge.
    """

    prepared: Prepared
    rows: tuple[Row, ...]
    masks: MaskStore


@dataclasses.dataclass(frozen=True)
class Said:
    """What a model, or memory, says of test images.

    Attributes:
      groups: the group of each; copies of an image are of one group.
      labels: [n] bool, whether it is malignant.
      probabilities: [n] of malignancy.
      nearest: relation to the training image that memory found: "same picture", "same group" or ""; "" of a model.
    """

    groups: list[str]
    labels: np.ndarray
    probabilities: np.ndarray
    nearest: list[str]

    @classmethod
    def read(cls, path: pathlib.Path) -> Self:
        """Reads what `write` wrote."""
        lines = read_table(path)
        return cls(
            [line["group"] for line in lines],
            np.array([line["label"] == "1" for line in lines]),
            np.array([float(line["probability"]) for line in lines]),
            [line["nearest"] for line in lines],
        )


def write(path: pathlib.Path, rows: Iterable[Row], probabilities: Iterable[float], nearest: Iterable[str]) -> None:
    """Writes a line an image, which `Said.read` reads."""
    lines = (
        (row.image_id, row.group, row.target, repr(float(probability)), relation)
        for row, probability, relation in zip(rows, probabilities, nearest, strict=True)
    )
    write_table(path, ["image_id", "group", "label", "probability", "nearest"], lines)


def tests(run: Run, folder: pathlib.Path) -> dict[str, Test]:
    """Returns what a trained run is tested on, by rung: its own test images; in protocol "grouped" more.

    They are at their natural share all images of the collection without a relative in training or validation, one a
    picture; and those of another collection, without such.

    Args:
      run: is trained.
      folder: gets the masks of images that are not in the run's split.
    """
    protocol = run.config.splits.protocol
    found = {protocol: Test(run.prepared, run.split.classified("test"), run.masks)}
    if protocol == "grouped":
        found["natural"] = _masked(run, run.prepared, _held_out(run), folder / "natural")
        if other := _elsewhere(run):
            found["elsewhere"] = _masked(run, *other, folder / "elsewhere")
    return found


def modelled(run: Run, test: Test) -> np.ndarray:
    """Returns the probability of malignancy that the run's classifier gives each image, not calibrated: [n]."""
    source = Examples(test.prepared, test.rows, run.config.classifier.image_size, test.masks, run.config.bridge)
    logits = [logits for _, logits in run.classifiers.predict(source)]
    return malignant_probability(np.array(logits), run.classes)


def remembered(run: Run, test: Test, memory: str) -> tuple[np.ndarray, list[str]]:
    """Returns what the nearest training images say, [n], and how the nearest one is related to the test image."""
    train = Test(run.prepared, run.split.classified("train"), run.masks)
    describe = _DESCRIPTIONS[memory]
    found = recall(describe(run, train), np.array([row.target for row in train.rows]), describe(run, test))
    pairs = zip(test.rows, (train.rows[place] for place in found.nearest), strict=True)
    return found.probabilities, [_relation(*pair) for pair in pairs]


def _relation(row: Row, other: Row) -> str:
    if row.picture == other.picture:
        return "same picture"
    return "same group" if row.group == other.group else ""


def _held_out(run: Run) -> tuple[Row, ...]:
    seen = {row.group for row in run.prepared.rows if row.split in ("train", "validation")}
    own = [row for row in run.prepared.rows if row.source in run.config.data.own and row.target >= 0]
    free = [row for row in own if row.split in ("test", "unused") and row.group not in seen]
    return tuple({row.picture: row for row in free}.values())


def _elsewhere(run: Run) -> tuple[Prepared, tuple[Row, ...]] | None:
    """Returns another collection and its images without relatives among the run's; None where there is none."""
    data = run.config.data
    name = ELSEWHERE.get(data.collection)
    if name is None:
        return None
    try:
        same = {"target": data.target, "illumination": data.illumination}
        other = load_dataset(name, records=str(run.records), on_error="skip", **same)
    except FileNotFoundError as error:
        _log.warning("no images of another origin: %s", error)
        return None
    parts = [Part(row.image_id, row.split, row.fold, row.perceptual_hash) for row in run.prepared.rows]
    parts += [part for base in released.bases(run.config) for part in base.saw]
    rows, _ = unseen([row for row in other.rows if row.target >= 0], parts)
    if run.config.bridge.masks == "annotated":
        rows = [row for row in rows if row.has_mask]
    return other, tuple({row.picture: row for row in rows}.values())


def _masked(run: Run, prepared: Prepared, rows: tuple[Row, ...], folder: pathlib.Path) -> Test:
    """Returns images with masks of the run's kind, which are made once and kept in `folder`."""
    run.devices.wait_for_all(f"{folder} before its masks")
    if not folder.exists():
        masks = masks_of(run, prepared, rows)  # all processes predict together
        if run.devices.is_lead:
            unfinished = folder.with_name(f"{folder.name}.unfinished")
            mask_store.write(unfinished, masks)
            unfinished.rename(folder)
        else:
            collections.deque(masks, maxlen=0)
    run.devices.wait_for_all(f"the masks in {folder}")
    return Test(prepared, rows, MaskStore(folder))


def _thumbnails(_: Run, test: Test) -> np.ndarray:
    images = (decode.read(test.prepared, row, _THUMBNAIL, annotated=False)[0] for row in test.rows)
    return np.array([resize(image, _THUMBNAIL).ravel() for image in images], np.float64)


def _features(run: Run, test: Test) -> np.ndarray:
    """Describes whole images by the classifier as it is before it has seen any."""
    config, network = run.config, run.networks.classifier(0, run.classes.num_logits)
    compiled = run.devices.compile_predict(steps.make_describe(network, config.bridge))
    unframed = dataclasses.replace(config.bridge, mode="none")
    source = Examples(test.prepared, test.rows, config.classifier.image_size, test.masks, unframed)
    size = run.devices.round_up(config.classifier.training.batch_size)
    variables = network.params, network.batch_stats
    found = predict(compiled, variables, source, batch_size=size, devices=run.devices, config=config.input)
    return np.array([features for _, features in found], np.float64)


_DESCRIPTIONS: dict[str, Callable[[Run, Test], np.ndarray]] = {"thumbnails": _thumbnails, "features": _features}
