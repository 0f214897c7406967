"""The released model: what its card promises, and what it says of images that are none."""

import hashlib
import json
import pathlib

import numpy as np
import pytest
from PIL import Image, ImageDraw
from sklearn import metrics as sk_metrics

import segfusion_jax as sf
from segfusion_jax.evaluation import segmentation
from segfusion_jax.runtime.locations import find_data
from tests import tiny

FOLDER = pathlib.Path(__file__).parents[2] / "released" / "ham10000"
HAM10000 = find_data("ham10000")


@pytest.fixture(scope="module")
def metadata():
    return json.loads((FOLDER / "metadata.json").read_text())


@pytest.fixture(scope="module")
def model():
    return sf.SegFusion.load(FOLDER)


def test_weights_are_small():
    assert sum(path.stat().st_size for path in FOLDER.glob("*.safetensors")) <= 16_000_000


def test_the_split_is_the_one_that_metadata_names_and_parts_no_lesion(metadata):
    rows = tiny.table(FOLDER / "split.csv")
    lines = sorted(f"{row['image_id']} {row['split']}" for row in rows)
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == metadata["split_sha256"]
    splits: dict[str, set[str]] = {}
    for row in rows:  # a picture and its crop
        splits.setdefault(row["image_id"].rpartition("/")[2], set()).add(row["split"])
    assert len(splits) == 10_015 and all(len(found - {"unused"}) <= 1 for found in splits.values())


def test_metadata_says_where_everything_comes_from(metadata):
    assert [data["licence"] for data in metadata["data"]] == ["CC BY-NC 4.0"]
    assert "_blocks.15._project_conv.weight is an estimate" in metadata["pretrained"]["classifier"]["origin"]
    assert len(metadata["classes"]) == 7 and len(metadata["positive"]) == 3


def test_the_card_tells_the_metrics_of_metadata(metadata):
    card = (FOLDER / "README.md").read_text()
    for part in metadata["metrics_by_part"].values():
        for section, name in (
            ("segmentation", "dice"),
            ("segmentation", "jaccard"),
            ("classification", "roc_auc"),
            ("diagnosis_equal_shares", "balanced_accuracy"),
        ):
            entry = part[section][name]
            assert f"{entry['value']:.3f} ({entry['low']:.3f} to {entry['high']:.3f})" in card


def test_blanks_noise_and_text_are_unfamiliar(model):
    blanks = [np.full((60, 80, 3), colour, np.uint8) for colour in ((0, 0, 0), (255, 255, 255), (0, 90, 200))]
    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    page = Image.new("RGB", (192, 144), "white")
    ImageDraw.Draw(page).multiline_text((5, 5), "\n".join(["the lesion was seen on the left arm"] * 8), fill="black")
    predictions = model.predict([*blanks, noise, np.asarray(page)])
    assert [prediction.familiar for prediction in predictions] == [False] * 5


@pytest.mark.skipif(HAM10000 is None, reason="needs ham10000 in a folder of SEGFUSION_DATA")
def test_held_out_lesions_are_found_and_told_apart(model):
    """On frames of 300x225, larger than those it learned from, whose test figures are in the card."""
    assert HAM10000 is not None
    diagnoses = {row["image_id"]: row["dx"] for row in tiny.table(HAM10000 / "HAM10000_metadata.csv")}
    rows = tiny.table(FOLDER / "split.csv")
    tested = sorted({row["image_id"].rpartition("/")[2] for row in rows if row["split"] == "test"})
    malignant = [name for name in tested if diagnoses[name] in ("mel", "bcc", "akiec")][::8]
    benign = [name for name in tested if diagnoses[name] not in ("mel", "bcc", "akiec")][::32]
    assert len(malignant) > 40 and len(benign) > 40
    predictions = model.predict([next(HAM10000.glob(f"*/{name}.jpg")) for name in malignant + benign])
    labels = [True] * len(malignant) + [False] * len(benign)
    assert sk_metrics.roc_auc_score(labels, [prediction.probability for prediction in predictions]) > 0.85
    scores = []
    for name, prediction in zip(malignant + benign, predictions, strict=True):
        annotation = Image.open(HAM10000 / "HAM10000_segmentations_lesion_tschandl" / f"{name}_segmentation.png")
        mask = np.asarray(Image.fromarray(prediction.mask).resize(annotation.size))
        scores.append(segmentation.score(mask, segmentation.binarise(np.asarray(annotation)))["dice"])
    assert np.mean(scores) > 0.9
    assert np.mean([prediction.familiar for prediction in predictions]) > 0.9
