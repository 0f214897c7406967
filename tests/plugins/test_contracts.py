"""The contracts of parts that a config may name: ours and the examples meet them; others are told what they lack."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from examples import asymmetric_loss, clinic, convnext, hairs
from segfusion_jax.config import Augmentation, Classifier, Config, Data, Source, is_plugin
from segfusion_jax.datasets import collections
from segfusion_jax.input.augment import augment
from segfusion_jax.models import mobilenet_v3
from segfusion_jax.models.inverted_residual import ImageClassifier
from segfusion_jax.models.layers import TENSORFLOW, TIMM
from segfusion_jax.plugins import contracts
from segfusion_jax.training import losses
from tests import shallow

SMALL_V3 = mobilenet_v3.plan("mobilenet_v3_small", width=0.25)
SHORT_V3 = SMALL_V3._replace(blocks=SMALL_V3.blocks[1:5])


def ours(kind):
    """A loss of ours as the protocol has it: labels of one class only, by their numbers, and a coarse one."""

    def loss(logits, possible):
        coarse = ((True, True, False), (False, True, True), (True, False, True))
        table = jnp.asarray(np.concatenate([np.eye(3, dtype=bool), coarse]))
        label = (possible[:, None] == table).all(-1).argmax(-1)
        options = dict(focal_gamma=2.0, class_weights=(1.0,) * 6, coarse=coarse)
        return losses.classification_loss(logits, label, kind=kind, **options)

    return loss


@pytest.mark.parametrize(
    "make",
    [
        functools.partial(ImageClassifier, shallow.PLAN, conventions=TENSORFLOW),
        functools.partial(ImageClassifier, SHORT_V3, conventions=TIMM),
        convnext.small,
    ],
)
def test_backbones(make):
    contracts.check_backbone(make, "it")


@pytest.mark.parametrize("loss", [ours("cross_entropy"), ours("focal"), asymmetric_loss.asymmetric])
def test_losses(loss):
    contracts.check_loss(loss, "it")


def coloured(image, mask, rng):
    return augment(image, mask, Augmentation(hue=20.0, contrast=0.2), rng)


@pytest.mark.parametrize("augmentation", [coloured, hairs.hairs])
def test_augmentations(augmentation):
    contracts.check_augmentation(augmentation, "it")


@pytest.mark.parametrize("reader", [*collections.READERS.values(), clinic.Clinic])
def test_readers(reader):
    contracts.check_reader(reader, "it")


class Wrong(convnext.ConvNeXt):
    """What a ConvNeXt may have wrong; `fault` says what."""

    fault = ""

    def pool(self, maps):
        return maps.mean(1) if self.fault == "pool" else super().pool(maps)

    def middle_features(self, x):
        return x.shape if self.fault == "middle" else super().middle_features(x)


def wrong(fault, **options):
    def make(*, num_classes, channels, dropout, dtype, rngs, **_):
        made = Wrong((8, 8), channels=channels, num_classes=num_classes, dropout=dropout, dtype=dtype, rngs=rngs)
        made.fault = fault
        if fault == "half":
            made.head.kernel.set_value(made.head.kernel.get_value().astype(jnp.bfloat16))
        if fault == "headless":
            made.tail, made.head = made.head, None
        if fault == "rngs":
            made.own = nnx.Dropout(0.5, rngs=rngs)
        return made

    return make


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda *, num_classes: None, "called with .*num_classes.*unexpected keyword argument"),
        (lambda **_: jnp.zeros(2), "returns an nnx.Module; it returns ShapeDtypeStruct"),
        (wrong("pool"), r"pool has shape \[2, any\]; it is"),
        (wrong("middle"), r"middle_features has shape \[2, any\]; it is tuple"),
        (wrong("half"), "parameters are float32; .*kernel.* is bfloat16"),
        (wrong("headless"), "its last layer is called head; its parts are"),
        (wrong("rngs"), "all of its state is nnx.Param and nnx.BatchStat"),
    ],
)
def test_a_backbone_that_fails_is_told_which_part_of_the_protocol(make, told):
    where = "config.classifier.backbone = 'mine:it'"
    begin = r"config.classifier.backbone = 'mine:it' does not meet its protocol \(segfusion_jax.*protocols.Backbone\): "
    with pytest.raises(ValueError, match=begin + told):
        contracts.check_backbone(make, where)


def cross_entropy(logits, possible):
    return -jnp.where(possible, jax.nn.log_softmax(logits), -jnp.inf).max(-1)


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        (lambda logits: logits, "called with logits and possible"),
        (lambda logits, possible: cross_entropy(logits, possible).mean(), r"has shape \[8\]; it is \(\)"),
        (lambda logits, possible: cross_entropy(logits, possible) - 1, "at least 0; it is -1"),
        (lambda logits, possible: cross_entropy(-logits, possible), "the loss of a right answer is lower"),
        (lambda logits, possible: -jnp.log((possible * jax.nn.softmax(logits)).sum(-1)), "the loss is finite"),
        (
            lambda logits, possible: cross_entropy(logits, possible) + jnp.abs(logits).mean(),
            "does not depend on the others of its batch",
        ),
    ],
)
def test_a_loss_that_fails_is_told_which_part_of_the_protocol(loss, told):
    with pytest.raises(ValueError, match=r"protocols.Loss\): .*" + told):
        contracts.check_loss(loss, "config.classifier.loss = 'mine:it'")


def changing(image, mask, rng):
    image[0] = 0
    return image, mask


@pytest.mark.parametrize(
    ("augmentation", "told"),
    [
        (lambda image, mask: (image, mask), "called with image, mask and rng"),
        (lambda image, mask, rng: image, "returns image and mask; it returns ndarray"),
        (lambda image, mask, rng: (image / 255, mask), r"the image returned is uint8 \(24, 32, 3\); it is float64"),
        (lambda image, mask, rng: (image, mask[1:]), r"the mask returned is uint8 \(24, 32\); it is uint8 \(23, 32\)"),
        (changing, "the image given is left as it is"),
        (lambda image, mask, rng: (np.random.permutation(image), mask), "all that is random comes from rng"),
    ],
)
def test_an_augmentation_that_fails_is_told_which_part_of_the_protocol(augmentation, told):
    with pytest.raises(ValueError, match=r"protocols.Augmentation\): " + told):
        contracts.check_augmentation(augmentation, "config.classifier.augmentation.extra = 'mine:it'")


@pytest.mark.parametrize(
    ("reader", "told"),
    [
        (type("Reader", (), {"TITLE": "It", "ADDRESS": ""}), "ADDRESS is a text; it is ''"),
        (
            type("Reader", (), dict.fromkeys(("TITLE", "ADDRESS", "LICENCE"), "it")),
            "read can be called with root, data",
        ),
    ],
)
def test_a_reader_that_fails_is_told_which_part_of_the_protocol(reader, told):
    with pytest.raises(ValueError, match=r"protocols.Reader\): " + told):
        contracts.check_reader(reader, "config.data.collections.mine.reader = 'mine:it'")


def config(**fields) -> Config:
    return dataclasses.replace(Config(), **fields)


@pytest.mark.parametrize(
    ("of", "told"),
    [
        (dict(metric_logger="no.such:thing"), "metric_logger = 'no.such:thing': no.such cannot be imported"),
        (dict(metric_logger="examples.hairs:wigs"), "examples.hairs has no 'wigs'; it has cv2, hairs, np"),
        (
            dict(metric_logger="examples.hairs:hairs"),
            r"protocols.MakeLogger\): metric_logger can be called with folder",
        ),
        (
            dict(classifier=Classifier(loss="examples.hairs:hairs")),
            r"classifier.loss = 'examples.hairs:hairs' does not",
        ),
    ],
)
def test_what_a_config_names_is_checked_before_the_first_stage(of, told):
    with pytest.raises(ValueError, match=told):
        contracts.check(config(**of))


def test_every_field_that_names_a_part_is_known():
    backbone, loss, extra = "examples.convnext:small", "examples.asymmetric_loss:asymmetric", "examples.hairs:hairs"
    classifier = Classifier(backbone=backbone, loss=loss, augmentation=Augmentation(extra=extra))
    data = Data(collection="", collections={"clinic": Source(reader="examples.clinic:Clinic")})
    named = config(classifier=classifier, data=data, metric_logger="examples.wandb_logger:Run")
    contracts.check(named)
    assert named.plugins == {
        "classifier.backbone": backbone,
        "classifier.loss": loss,
        "classifier.augmentation.extra": extra,
        "data.collections.clinic.reader": "examples.clinic:Clinic",
        "metric_logger": "examples.wandb_logger:Run",
    }


@pytest.mark.parametrize("name", ["a.b", "a:b.c", ":b", "a:", "../a:b", "a b:c", "1a:b", 3])
def test_what_is_no_name_of_a_part(name):
    assert not is_plugin(name)
    if isinstance(name, str):
        with pytest.raises(ValueError, match="'package.module:name' of your own"):
            Classifier(backbone=name)


@pytest.mark.parametrize("fields", [{"width": 0.5}, {"depth": 2.0}, {"conventions": "timm"}, {"layer_decay": 0.5}])
def test_what_is_said_of_our_backbones_cannot_be_said_of_others(fields):
    (name,) = fields
    with pytest.raises(ValueError, match=f"{name} = .* with a backbone of your own"):
        Classifier(backbone="examples.convnext:small", **fields)
