"""A finished run as a model: arrays and files in, masks and probabilities out."""

import dataclasses
import json
import pathlib
import shutil
from typing import Any
from unittest import mock

import jax
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image
from scipy import special

import segfusion_jax as sf
from segfusion_jax.bridge.resize import resize
from segfusion_jax.config import Bridge
from segfusion_jax.datasets import colours
from segfusion_jax.evaluation.calibration import Calibration
from segfusion_jax.evaluation.novelty import Novelty
from segfusion_jax.input import decode
from segfusion_jax.input.mask_store import MaskStore
from segfusion_jax.pipeline.run import Run
from segfusion_jax.serving import model_folder
from segfusion_jax.serving.ensembles import Classes, ClassifierEnsemble
from tests import tiny


@pytest.fixture(scope="module")
def model(finished) -> sf.SegFusion:
    return sf.SegFusion.load(finished)


@pytest.fixture(scope="module")
def test_rows(finished):
    return [row for row in Run(tiny.BASE, finished).prepared.rows if row.split == "test"]


@pytest.fixture(scope="module")
def images(finished, test_rows) -> np.ndarray:
    """The stored test images, uint8 [N, 144, 192, 3]."""
    prepared = Run(tiny.BASE, finished).prepared
    return np.stack([decode.decode_image(prepared.read(row.position)[0]) for row in test_rows])


@pytest.fixture(scope="module")
def predictions(model, images):
    return model.predict(images)


def test_probabilities_are_those_of_the_evaluation(finished, predictions, test_rows):
    rows = tiny.table(finished / "evaluate/predictions.csv")
    assert [row["image_id"] for row in rows] == [row.image_id for row in test_rows]
    expected = np.array([float(row["probability"]) for row in rows])
    np.testing.assert_allclose([p.probability for p in predictions], expected, atol=1e-3)
    # probabilities of a network that learned little are hardly apart once they are calibrated; its logits are
    temperature = json.loads((finished / "evaluate/metrics.json").read_text())["calibration"]["temperature"]
    logits = [temperature * special.logit(p.probability) for p in predictions]
    expected = [float(row["logit of malignant"]) for row in rows]
    np.testing.assert_allclose(logits, expected, atol=0.02)
    assert np.ptp(expected) > 0.1  # else any model would pass


def test_decisions_are_made_at_the_validations_threshold(finished, model, predictions):
    metrics = json.loads((finished / "evaluate/metrics.json").read_text())
    assert model.threshold == metrics["classification"]["threshold"]["value"]
    assert [p.malignant for p in predictions] == [p.probability >= model.threshold for p in predictions]


def test_masks_are_the_bridges_at_the_size_of_the_image(finished, predictions, test_rows):
    store = MaskStore(finished / "bridge")
    fallbacks = {row.image_id: row.fallback for row in store.rows}
    for row, prediction in zip(test_rows, predictions, strict=True):
        stored = resize(decode.decode_mask(store.read(row.image_id)), (144, 192)) >= 127.5
        assert prediction.mask.shape == (144, 192) and prediction.mask.dtype == bool
        assert (prediction.mask == stored).mean() > 0.999
        assert prediction.fallback == fallbacks[row.image_id]
        assert prediction.mask.all() or not prediction.fallback


def test_arrays_lists_and_files_are_the_same_to_it(model, images, predictions, tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for path, image in zip(paths, images, strict=False):
        Image.fromarray(image).save(path)
    mixed = [images[0], str(paths[1]), paths[2], images[3], paths[4]]
    for group in (list(images[:5]), paths, mixed):
        for prediction, expected in zip(model.predict(group), predictions, strict=False):
            np.testing.assert_array_equal(prediction.mask, expected.mask)
            assert prediction.probability == pytest.approx(expected.probability, abs=1e-5)
            assert (prediction.malignant, prediction.fallback) == (expected.malignant, expected.fallback)


def test_images_of_different_sizes_in_one_call(model, images, predictions):
    small = resize(images[1], (60, 100))
    tall = np.ascontiguousarray(images[2].transpose(1, 0, 2))
    together = model.predict([images[0], small, tall])
    assert [p.mask.shape for p in together] == [(144, 192), (60, 100), (192, 144)]
    assert together[0].probability == pytest.approx(predictions[0].probability, abs=1e-5)
    alone = [model.predict([image])[0] for image in (small, tall)]
    for one, other in zip(alone, together[1:], strict=True):
        assert one.probability == pytest.approx(other.probability, abs=1e-5)
        np.testing.assert_array_equal(one.mask, other.mask)


def test_a_model_that_learned_in_even_light_sees_images_in_it(model, images, monkeypatch):
    tinted = [(image * np.array([1.0, 0.7, 0.8])).astype(np.uint8) for image in images[:3]]
    expected = model.predict([colours.even(image) for image in tinted])
    plain = model.predict(tinted)
    data = dataclasses.replace(model.config.data, illumination="even")
    monkeypatch.setattr(model, "config", dataclasses.replace(model.config, data=data))
    found = model.predict(tinted)
    assert [one.novelty for one in found] == [one.novelty for one in expected] == model.novelty(tinted)
    assert [one.probability for one in found] == [one.probability for one in expected]
    assert [one.probability for one in found] != [one.probability for one in plain]


def test_loading_compiles_nothing(finished):
    compiled = []

    def hear(event, seconds, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(hear)
    try:
        sf.SegFusion.load(finished)
        assert not compiled
        jax.jit(lambda x: x + 1)(1.0)
        assert compiled  # the listener hears
    finally:
        jax.monitoring.clear_event_listeners()


def test_one_image_is_a_batch_of_one(finished, images):
    model, sizes = sf.SegFusion.load(finished), []
    segment = model.segmenters.segment
    model.segmenters._compiled = model.segmenters._devices.compile_predict(
        lambda variables, batch: sizes.append(batch["image"].shape[0]) or segment(variables, batch)
    )
    model.predict(images[:1])
    assert sizes == [1]
    model.predict(images[:2])
    assert sizes == [1, 8 // jax.local_device_count()]


def test_no_images_no_predictions(model):
    assert model.predict([]) == []
    assert model.predict(np.zeros((0, 10, 10, 3), np.uint8)) == []


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((8, 8, 3)), r"image 1 is float64 \(8, 8, 3\): must be uint8 \(height, width, 3\)"),
        (np.zeros((8, 8), np.uint8), r"image 1 is uint8 \(8, 8\)"),
        (np.zeros((8, 8, 4), np.uint8), r"image 1 is uint8 \(8, 8, 4\)"),
        (np.zeros((0, 8, 3), np.uint8), r"image 1 is uint8 \(0, 8, 3\)"),
    ],
)
def test_arrays_that_are_no_images_are_named(model, images, bad, message):
    with pytest.raises(ValueError, match=message):
        model.predict([images[0], bad])


def test_files_that_are_no_images_are_named(model, images, tmp_path):
    Image.fromarray(images[0]).save(tmp_path / "whole.jpg")
    (tmp_path / "half.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:1500])
    (tmp_path / "notes.txt").write_text("no image")
    for name in ("half.jpg", "notes.txt"):
        with pytest.raises(ValueError, match=f"{tmp_path / name}: unreadable image"):
            model.predict([tmp_path / name])
    with pytest.raises(FileNotFoundError, match="nowhere.jpg"):
        model.predict([str(tmp_path / "nowhere.jpg")])


def test_the_model_folder_alone_is_enough(finished, images, predictions, tmp_path):
    folder = shutil.copytree(finished / "model", tmp_path / "released")
    (prediction,) = sf.SegFusion.load(str(folder)).predict(images[:1])
    assert prediction.probability == pytest.approx(predictions[0].probability, abs=1e-5)


def test_folders_without_a_model_are_named(finished, tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match=f"{folder} holds no metadata.json.*finished workdir"):
            sf.SegFusion.load(folder)
    (tmp_path / "metadata.json").write_text('{"config": {}}')
    with pytest.raises(ValueError, match="metadata.json describes no model of segfusion_jax: it holds no unets, "):
        sf.SegFusion.load(tmp_path)
    broken = shutil.copytree(finished / "model", tmp_path / "broken")
    (broken / "unet_1.safetensors").unlink()
    with pytest.raises((FileNotFoundError, ValueError), match="unet_1.safetensors"):
        sf.SegFusion.load(broken)
    (broken / "unet_1.safetensors").write_bytes((broken / "classifier.safetensors").read_bytes())
    model_folder.write_manifest(broken)
    with pytest.raises(ValueError, match="unet_1.safetensors does not fit the model"):
        sf.SegFusion.load(broken)


def test_files_are_read_as_prepare_reads_them(model, images, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(images[0]).save(tmp_path / "turned.png", exif=exif)
    (turned,) = model.predict([tmp_path / "turned.png"])
    assert turned.mask.shape == images[0].shape[1::-1]

    Image.fromarray(np.full((20, 20), 4_000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match=r"deep.png: image of more than 8 bits a channel"):
        model.predict([tmp_path / "deep.png"])


def test_with_eight_views_it_is_the_same_however_an_image_lies(finished, model, images, tmp_path):
    folder = shutil.copytree(finished / "model", tmp_path / "views")
    metadata = json.loads((folder / "metadata.json").read_text())
    metadata["config"]["segmenter"]["views"] = metadata["config"]["classifier"]["views"] = 8
    (folder / "metadata.json").write_text(json.dumps(metadata))
    model_folder.write_manifest(folder)
    ways = [images[0], images[0][::-1], images[0][:, ::-1]]
    found, usual = (predictor.predict(ways) for predictor in (sf.SegFusion.load(folder), model))
    for way in (1, 2):
        turned = [np.flip(predicted[way].mask, way - 1) != predicted[0].mask for predicted in (found, usual)]
        assert turned[0].mean() < 1e-3 < turned[1].mean()
        differences = [abs(log_odds(p[way].probability) - log_odds(p[0].probability)) for p in (found, usual)]
        assert differences[0] < 1e-4 and differences[1] > 1e-3


def log_odds(probability):
    return np.log(probability / (1 - probability))


def test_probabilities_are_calibrated_and_move_with_the_prevalence_but_decisions_do_not(
    finished, images, predictions, tmp_path
):
    folder = shutil.copytree(finished / "model", tmp_path / "calibrated")
    metadata = json.loads((folder / "metadata.json").read_text())
    raw = log_odds(np.array([p.probability for p in predictions])) * metadata["temperature"]
    middle = float(np.median(raw) / 2 + 0.7)
    changed = {"temperature": 2.0, "shift": [0.7], "prevalence": 0.2, "threshold": 1 / (1 + np.exp(-middle))}
    (folder / "metadata.json").write_text(json.dumps(metadata | changed))
    model_folder.write_manifest(folder)
    model = sf.SegFusion.load(folder)
    at_own, at_other = model.predict(images), model.predict(images, prevalence=0.01)
    own, other = (log_odds(np.array([p.probability for p in found])) for found in (at_own, at_other))
    np.testing.assert_allclose(own, raw / 2 + 0.7, atol=1e-4)
    np.testing.assert_allclose(other, own + np.log(0.01 / 0.99) - np.log(0.2 / 0.8), atol=1e-6)
    decisions = [p.malignant for p in at_own]
    assert decisions == (own >= middle).tolist() == [p.malignant for p in at_other] and 0 < sum(decisions) < len(own)
    assert at_other[0].probabilities["malignant"] == at_other[0].probability


def diagnosing(logits: list[float], calibration: Calibration, prevalence: float) -> sf.SegFusion:
    """A model of three classes that says the same of every image."""
    segmenters, classifiers = mock.Mock(), mock.Mock()
    segmenters.predict = lambda source: ((row, np.full((16, 16), 0.9, np.float32)) for row in source.rows)
    classifiers.predict = lambda source: ((row, np.array(logits)) for row in source.rows)
    classifiers.describe = lambda source: ((row, np.zeros(2, np.float32)) for row in source.rows)
    classifiers.classes = Classes(("melanoma", "nevus", "bcc"), (True, False, True), 3)
    told: dict[str, Any] = dict(calibration=calibration, prevalence=prevalence, threshold=0.5)
    familiarity = Novelty(np.zeros(2, np.float32), np.eye(2, dtype=np.float32))
    return sf.SegFusion(tiny.BASE, segmenters, classifiers, familiarity=familiarity, **told)


def test_shares_of_the_malignant_classes_among_each_other_stay_at_another_prevalence():
    calibration = Calibration(2.0, (0.0, np.log(2), 0.0))
    model = diagnosing([2 * np.log(3), 2 * np.log(2), 0.0], calibration, 0.25)  # weights 3, 2 x 2 and 1 once calibrated
    image = np.zeros((1, 20, 20, 3), np.uint8)
    (own,), (other,) = model.predict(image), model.predict(image, prevalence=0.5)
    assert own.probabilities == pytest.approx({"melanoma": 3 / 8, "nevus": 4 / 8, "bcc": 1 / 8})
    # odds of malignancy are 1 and become 3
    assert other.probabilities == pytest.approx({"melanoma": 9 / 16, "nevus": 4 / 16, "bcc": 3 / 16})
    assert (own.probability, other.probability) == pytest.approx((0.5, 0.75))
    assert own.malignant and other.malignant
    assert not model.predict(image, prevalence=0.01)[0].probability >= 0.5
    assert model.predict(image, prevalence=0.01)[0].malignant


@pytest.mark.parametrize("prevalence", [0, 1, -0.1, float("nan")])
def test_prevalences_that_are_none_are_refused(model, images, prevalence):
    with pytest.raises(ValueError, match=rf"prevalence = {prevalence}: must be in \(0, 1\)"):
        model.predict(images[:1], prevalence=prevalence)


def test_evidence_is_of_the_size_of_the_image_and_adds_up_to_the_logit(finished, model, images, predictions):
    bias = safetensors.numpy.load_file(finished / "model/classifier.safetensors")["head.bias"][0]
    evidence = model.explain([images[0], resize(images[1], (60, 100))])
    assert [e.shape for e in evidence] == [(144, 192), (60, 100)] and {e.dtype for e in evidence} == {np.dtype("f")}
    temperature = json.loads((finished / "model/metadata.json").read_text())["temperature"]
    logit = temperature * log_odds(predictions[0].probability)  # the grid of 32 x 32 pixels is one place
    np.testing.assert_allclose(evidence[0] + bias, logit, rtol=1e-3, atol=1e-4)
    assert model.explain([]) == []


def test_evidence_of_a_crop_is_put_where_the_crop_was(images):
    model = diagnosing([0.0, 0.0, 0.0], Calibration(1.0, (0.0, 0.0, 0.0)), 0.5)
    probability = np.zeros((24, 32), np.float32)
    probability[6:12, 8:18] = 1
    model.config = dataclasses.replace(tiny.BASE, bridge=Bridge(mode="crop", margin=0.5))
    model.segmenters.predict = lambda source: ((row, probability) for row in source.rows)
    grid = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    model.classifiers.explain = lambda source: ((row, grid) for row in source.rows)
    (evidence,) = model.explain(images[:1])
    shown = np.zeros((144, 192), bool)
    shown[18:90, 18:138] = True  # the mask's box with half a side around it, six times as large
    assert ((evidence > 0) == shown).all()
    box = evidence[18:90, 18:138]
    assert (box[0, 0], box[0, -1], box[-1, 0], box[-1, -1]) == (1, 2, 3, 4) and box.mean() == pytest.approx(2.5)


def test_noise_is_unfamiliar_and_test_images_are_not(finished, model, images, predictions):
    flagged = json.loads((finished / "evaluate/metrics.json").read_text())["novelty"]["flagged"]["value"]
    assert np.mean([not p.familiar for p in predictions]) == pytest.approx(flagged, abs=1e-9) and flagged < 0.2
    noise = np.random.default_rng(0).integers(0, 2, (32, 32, 3), dtype=np.uint8) * 255  # finer, it would become grey
    (prediction,) = model.predict([noise])
    assert not prediction.familiar and prediction.novelty > 1
    assert model.novelty(images[:3]) == pytest.approx([p.novelty for p in predictions[:3]], rel=1e-4)
    assert model.novelty([]) == []
    assert all(p.familiar == (p.novelty <= 1) for p in predictions)


def test_what_is_masked_has_no_part_in_novelty(model, images, predictions, monkeypatch):
    masks = [np.zeros((16, 32), np.uint8)] * 3, [""] * 3
    monkeypatch.setattr(model, "_masks", lambda loaded: masks)
    for found, usual in zip(model.predict(images[:3]), predictions, strict=False):
        assert found.novelty == pytest.approx(usual.novelty, rel=1e-4) and found.probability != usual.probability


@pytest.mark.parametrize("kind", [str, pathlib.Path])
def test_a_single_path_is_refused(model, kind):
    with pytest.raises(ValueError, match="must be a sequence"):
        model.predict(kind("lesion.jpg"))


def test_a_single_array_is_refused(model, images):
    with pytest.raises(ValueError, match=r"images is an array \(144, 192, 3\): .* of a single one, \[image\]"):
        model.predict(images[0])


def test_a_pixel_is_lesion_from_the_bridges_threshold_on(images):
    model = diagnosing([0.0, 0.0, 0.0], Calibration(1.0, (0.0, 0.0, 0.0)), 0.5)
    probability = np.full((24, 32), 0.6, np.float32)  # lesion by one half, but not by 0.8
    probability[6:18, 8:24] = 0.9
    model.config = dataclasses.replace(tiny.BASE, bridge=Bridge(mode="none", threshold=0.8))
    model.segmenters.predict = lambda source: ((row, probability) for row in source.rows)
    (prediction,) = model.predict(images[:1])
    inside = np.zeros((144, 192), bool)
    inside[36:108, 48:144] = True
    assert prediction.fallback == "" and (prediction.mask == inside).mean() > 0.97
    assert prediction.mask[72, 96] and not prediction.mask[10, 10]


def test_novelty_is_told_on_images_of_at_most_112_pixels_a_side():
    class Described(ClassifierEnsemble):
        def __init__(self, size):
            self._config = tiny.config(classifier__image_size=size)

    assert [Described(size).novelty_size for size in ((32, 64), (224, 96), (300, 400))] == [
        (32, 64),
        (112, 96),
        (112, 112),
    ]
