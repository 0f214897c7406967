"""The released model: what its card promises, and what it says of images that are none."""

import dataclasses
import hashlib
import json
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image, ImageDraw
from sklearn import metrics as sk_metrics

import segfusion_jax as sf
from segfusion_jax.config import Bridge, Config, Segmenter
from segfusion_jax.evaluation import segmentation
from segfusion_jax.models import from_config
from segfusion_jax.models.pretrained import flatten
from segfusion_jax.runtime.locations import find_data
from tests import tiny

FOLDER = pathlib.Path(__file__).parents[2] / "released" / "ham10000"
HAM10000 = find_data("ham10000")


@pytest.fixture(scope="module")
def metadata():
    return json.loads((FOLDER / "metadata.json").read_text())


def stored(metadata) -> Config:
    return Config.from_json(json.dumps(metadata["config"]))


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


def test_its_classifier_starts_another(metadata):
    config = dataclasses.replace(stored(metadata).classifier, pretrained=str(FOLDER))
    random = from_config.make_classifier(config, Bridge(), seed=0, dtype=jnp.dtype("float32"), num_logits=1)
    started = from_config.load_backbone(config, random)
    saved = safetensors.numpy.load_file(FOLDER / "classifier.safetensors")
    arrays = flatten(started.params) | flatten(started.batch_stats)
    assert arrays.keys() == saved.keys() and saved["head.kernel"].shape[1] == 7
    for name, array in arrays.items():
        theirs = flatten(random.params)[name] if name.startswith("head.") else saved[name].astype(np.float32)
        np.testing.assert_array_equal(array, theirs)


@pytest.mark.parametrize(("place", "number"), [(FOLDER, 0), (FOLDER / "unet_2.safetensors", 2)])
def test_its_unets_start_others(metadata, place, number):
    config = dataclasses.replace(stored(metadata).segmenter, pretrained=str(place))
    started = from_config.load_unet(config, from_config.make_unet(config, seed=None, dtype=jnp.dtype("float32")))
    saved = safetensors.numpy.load_file(FOLDER / f"unet_{number}.safetensors")
    arrays = flatten(started.params) | flatten(started.batch_stats)
    assert arrays.keys() == saved.keys()
    assert all((np.asarray(array) == saved[name].astype(np.float32)).all() for name, array in arrays.items())


def test_its_classifier_is_an_encoder_too_and_no_unet_a_classifier(metadata):
    config = stored(metadata)
    encoder = Segmenter(encoder="efficientnet_b0", filters=8, pretrained=str(FOLDER / "classifier.safetensors"))
    unet = from_config.load_unet(encoder, from_config.make_unet(encoder, seed=0, dtype=jnp.dtype("float32")))
    saved = safetensors.numpy.load_file(FOLDER / "classifier.safetensors")
    np.testing.assert_array_equal(unet.params["encoder"]["stem"]["conv"]["kernel"], saved["stem.conv.kernel"])
    wrong = dataclasses.replace(config.classifier, pretrained=str(FOLDER / "unet_0.safetensors"))
    random = from_config.make_classifier(wrong, Bridge(), seed=None, dtype=jnp.dtype("float32"))
    with pytest.raises(ValueError, match="config.classifier.pretrained = '.*unet_0.safetensors' holds a U-Net"):
        from_config.load_backbone(wrong, random)


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
