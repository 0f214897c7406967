"""Every field of a config: what it accepts, what it refuses, and in which words."""

import dataclasses
import json

import ml_collections
import pytest

from segfusion_jax import config
from segfusion_jax.config import Config, fields
from tests import tiny

AUGMENTATION = {
    "rotation": (90.0, 181.0),
    "shift_height": (1.0, -0.1),
    "shift_width": (0.0, 1.1),
    "zoom": (0.9, 1.0),
    "flip_horizontal": (False, 0),
    "flip_vertical": (False, "no"),
    "brightness": (0.9, 1.0),
    "contrast": (0.25, -0.1),
    "saturation": (0.5, 2.0),
    "hue": (180.0, 181.0),
    "white_balance": (0.9, 1.0),
}
TRAINING = {
    "best_metric": ("loss", "auc"),
    "epochs": (3, 0),
    "images_per_epoch": (1000, -1),
    "batch_size": (1, 0),
    "optimizer": ("sgd", "Adam"),
    "learning_rate": (1.0, 0.0),
    "weight_decay": (0.0, 1.5),
    "schedule": ("constant", "linear"),
    "warmup_epochs": (2.5, -1.0),
    "gradient_clip": (1e9, -1.0),
    "ema_decay": (0.999, 1.0),
    "sampling": ("balanced", "weighted"),
    "shares": ("origins", "equal"),
    "on_device_data": (True, 1),
    "microbatches": (4, 0),
    "remat": (True, "yes"),
    "nonfinite": ("skip", "ignore"),
}
FIELDS = {
    # field: (an unusual value that is accepted, one that is not)
    "seed": (7, -1),
    "compute_dtype": ("bfloat16", "float16"),
    "data.collection": ("isic2020", "isic2021"),
    "data.root": ("/data", 3),
    "data.records": ("records", True),
    "data.on_error": ("skip", "ignore"),
    "data.akiec": ("exclude", "benign"),
    "data.labels": ("labels.toml", 3),
    "data.group": ("Case", None),
    "data.download": (True, "yes"),
    "data.target": ("diagnosis", "lesion"),
    "data.actinic_keratosis": ("benign", "unknown"),
    "data.size": ((32, 48), (31, 32)),
    "data.aspect": ("letterbox", "pad"),
    "data.resampling": ("lanczos", "nearest"),
    "data.illumination": ("even", "grey"),
    "data.mask_lesion": ("above_128", "256"),
    "data.mask_ignored": (255, 256),
    "data.synthetic_images": (20, 19),
    "data.synthetic_seed": (7, -1),
    "splits.protocol": ("grouped", "random"),
    "splits.official_test": (True, 1),
    "splits.table": ("splits.csv", None),
    "splits.pool": (250, -1),
    "splits.test_fraction": (0.01, 0.0),
    "splits.validation_fraction": (0.79, float("nan")),
    "splits.num_folds": (3, 2),
    "splits.seed": (1, "1"),
    "segmenter.image_size": ((17, 32), (15, 40)),
    "segmenter.encoder": ("mobilenet_v3_small", "resnet50"),
    "segmenter.conventions": ("timm", "keras"),
    "segmenter.pretrained": ("unet.safetensors", 0),
    "segmenter.pretrained_head": ("fc", 0),
    "segmenter.filters": (1, 0),
    "segmenter.dropout": (0.0, 1.0),
    "segmenter.loss": ("dice", "iou"),
    "segmenter.test_time_augmentation": (8, 4),
    "bridge.mode": ("crop_dilate", "Crop"),
    "bridge.masks": ("annotated", "true"),
    "bridge.alpha": (0.0, 1.01),
    "bridge.threshold": (0.99, 1.0),
    "bridge.dilation": (0.5, 0.6),
    "bridge.margin": (2.0, -0.1),
    "bridge.min_area": (0.0, 0.6),
    "bridge.max_border": (1.0, 0.0),
    "classifier.image_size": ((17, 33), (15, 32)),
    "classifier.backbone": ("efficientnet_b7", "b7"),
    "classifier.conventions": ("torchvision", "pytorch"),
    "classifier.width": (0.25, 0.0),
    "classifier.depth": (0.25, 5.0),
    "classifier.pretrained": ("b0.npz", 0),
    "classifier.pretrained_head": ("fc", 0),
    "classifier.dropout": (0.95, -0.1),
    "classifier.drop_path": (0.0, 1.0),
    "classifier.loss": ("focal", "dice"),
    "classifier.focal_gamma": (0.0, 11.0),
    "classifier.class_weights": ("balanced", "inverse"),
    "classifier.frozen_epochs": (3, -1),
    "classifier.frozen_learning_rate": (0.1, 0.0),
    "classifier.seed": (1, -1),
    "classifier.layer_decay": (0.5, 0.0),
    "classifier.fold_ensemble": (True, 1),
    "classifier.test_time_augmentation": (8, 0),
    "evaluation.resamples": (100, 99),
    "evaluation.min_subgroup": (1, 0),
    "release.perceptual_hashes": (True, 1),
    "parallel.api": ("pmap", "pjit"),
    "parallel.sync_batch_norm": (False, 1),
    "input.num_threads": (1, 0),
    "input.num_workers": (2, -1),
    "input.log_seconds": (0.0, -1.0),
    "checkpoints.seconds": (0.0, -1.0),
    "checkpoints.keep": (5, 1),
    **{f"{model}.augmentation.{name}": v for model in ("segmenter", "classifier") for name, v in AUGMENTATION.items()},
    **{f"{model}.training.{name}": v for model in ("segmenter", "classifier") for name, v in TRAINING.items()},
    "segmenter.training.sampling": ("shuffled", "balanced"),
    "classifier.training.sampling": ("shuffled", "weighted"),  # "balanced" goes not with balanced class_weights
}


def flat(value, path: str = "") -> dict:
    if not dataclasses.is_dataclass(value):
        return {path.removesuffix("."): value}
    leaves = (flat(getattr(value, field.name), f"{path}{field.name}.") for field in dataclasses.fields(value))
    return {name: leaf for section in leaves for name, leaf in section.items()}


def with_values(**changes) -> ml_collections.ConfigDict:
    """The defaults with fields set whatever the type, as a config file could."""
    values = config.default().to_dict()
    for path, value in changes.items():
        *sections, name = path.split(".")
        section = values
        for part in sections:
            section = section[part]
        section[name] = value
    return ml_collections.ConfigDict(values, convert_dict=True)


OWN = (
    "data.classes",
    "data.positive",
    "metric_logger",
    "segmenter.augmentation.extra",
    "classifier.augmentation.extra",
)


def test_every_field_is_held_below():
    others = {"data.collections", *OWN}  # which test_collections.py, and the last tests, hold
    assert set(flat(Config())) == {*FIELDS} | others


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_can_be_overridden_and_only_it_changes(field):
    accepted = FIELDS[field][0]
    values = config.default()
    values.update_from_flattened_dict({field: accepted})  # what --config.<field>=<value> does
    changed = flat(Config.from_config_dict(values))
    assert changed[field] == accepted
    assert type(changed[field]) is type(flat(Config())[field])
    assert changed | {field: None} == flat(Config()) | {field: None}


@pytest.mark.parametrize("field", FIELDS)
def test_a_wrong_value_is_refused_with_path_value_and_what_is_accepted(field):
    refused = FIELDS[field][1]
    with pytest.raises(ValueError) as caught:
        Config.from_config_dict(with_values(**{field: refused}))
    message = str(caught.value)
    assert message.startswith(f"config.{field} = {refused!r}: must be ")
    expected = flat(Config())[field]
    if type(refused) is not type(expected):
        assert message.endswith(f"must be of type {type(expected).__name__}")
    elif isinstance(expected, str):
        assert message.endswith(repr(FIELDS[field][0])) or f"{FIELDS[field][0]!r}, " in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"splits.test_fraction": 0.5, "splits.validation_fraction": 0.45},
            "config.splits.validation_fraction = 0.45: ",
        ),
        (
            {"splits.protocol": "paper", "splits.table": "splits.csv"},
            "config.splits.table = 'splits.csv': must be left alone with protocol 'paper'",
        ),
        (
            {"splits.protocol": "by_image", "splits.official_test": True},
            "official_test = True: must be left alone with protocol 'by_image'",
        ),
        ({"segmenter.training.epochs": 2, "segmenter.training.warmup_epochs": 2.5}, r"warmup_epochs = 2.5: .*\[0, 2\]"),
        ({"classifier.training.weight_decay": 0.1}, r'weight_decay = 0.1: must be 0.0 with optimizer "adam"; "adamw"'),
        (
            {"segmenter.image_size": (0, 16)},
            r"image_size = \(0, 16\): must be \(height, width\), .*at least 16",
        ),
        (
            {"classifier.backbone": "mobilenet_v3_small", "classifier.depth": 0.5},
            "depth = 0.5: must be 1.0 with backbone 'mobilenet_v3_small'",
        ),
        (
            {"segmenter.training.sampling": "balanced"},
            "config.segmenter.training.sampling = 'balanced': must be 'shuffled'",
        ),
        (
            {"classifier.training.sampling": "balanced", "classifier.class_weights": "balanced"},
            'class_weights = \'balanced\': must be "none" with training.sampling "balanced"',
        ),
        ({"segmenter.image_size": (16, 16, 16)}, r"image_size = \(16, 16, 16\): must be .* two whole numbers"),
        ({"segmenter.image_size": (16.0, 16)}, r"config.segmenter.image_size = \(16.0, 16\): .* two whole numbers"),
        ({"classifier.image_size": 224}, "config.classifier.image_size = 224: .* two whole numbers"),
        ({"bridge": "dim"}, "config.bridge = 'dim': must be a section of fields"),
        ({"nonsense": 1}, r"config.nonsense = 1: unknown field; accepted are seed, compute_dtype, metric_logger, data"),
        (
            {"bridge.mod": "dim"},
            r"config.bridge.mod = 'dim': unknown field \(did you mean mode\?\); accepted are mode, masks, alpha",
        ),
    ],
)
def test_combinations_and_structure(changes, message):
    with pytest.raises(ValueError, match=message):
        Config.from_config_dict(with_values(**changes))


def test_weight_decay_is_accepted_with_an_optimizer_that_decays():
    values = with_values(**{"classifier.training.weight_decay": 0.1, "classifier.training.optimizer": "adamw"})
    assert Config.from_config_dict(values).classifier.training.weight_decay == 0.1


def test_a_missing_field_is_named():
    values = config.default().to_dict()
    del values["classifier"]["training"]["epochs"]
    with pytest.raises(ValueError, match="config.classifier.training.epochs is missing"):
        Config.from_config_dict(ml_collections.ConfigDict(values))


def test_a_whole_number_is_a_float_where_one_is_due():
    values = with_values(**{"segmenter.training.learning_rate": 1, "bridge.alpha": 0})
    converted = Config.from_config_dict(values)
    assert converted.segmenter.training.learning_rate == 1.0
    assert all(type(value) is float for value in (converted.segmenter.training.learning_rate, converted.bridge.alpha))


def test_sections_check_themselves_too():
    with pytest.raises(ValueError, match="mode = 'dimm': must be one of 'none', 'black'"):
        config.Bridge(mode="dimm")


def test_a_config_cannot_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().seed = 1  # pyright: ignore[reportAttributeAccessIssue]
    assert hash(Config()) == hash(Config())


@pytest.mark.parametrize(
    "changes", [{}, {field: accepted for field, (accepted, _) in FIELDS.items()}], ids=["default", "odd"]
)
def test_json_returns_the_same_config(changes):
    original = Config.from_config_dict(with_values(**changes))
    text = original.to_json()
    assert Config.from_json(text) == original
    assert json.loads(text)["segmenter"]["image_size"] == list(original.segmenter.image_size)
    assert Config.from_config_dict(original.to_config_dict()) == original


def test_json_of_an_earlier_version_gets_defaults():
    original = Config.from_config_dict(with_values(**{"bridge.mode": "crop", "segmenter.training.epochs": 3}))
    values = json.loads(original.to_json())
    del values["evaluation"], values["segmenter"]["augmentation"]["hue"], values["classifier"]["training"]["remat"]
    assert Config.from_json(json.dumps(values)) == original


def test_json_is_checked_like_a_config():
    values = json.loads(Config().to_json())
    values["bridge"]["alpha"] = 2
    with pytest.raises(ValueError, match=r"config.bridge.alpha = 2.0: must be in \[0, 1\]"):
        Config.from_json(json.dumps(values))


OLD = {
    # as version 0.1 called it: (as it is called now, a value)
    "segmenter.views": ("segmenter.test_time_augmentation", 8),
    "classifier.views": ("classifier.test_time_augmentation", 8),
    "segmenter.family": ("segmenter.conventions", "timm"),
    "classifier.family": ("classifier.conventions", "torchvision"),
    "segmenter.training.resident": ("segmenter.training.on_device_data", True),
    "classifier.training.resident": ("classifier.training.on_device_data", True),
}


@pytest.mark.parametrize("old", OLD)
def test_an_old_name_in_a_config_file_is_read_with_one_warning_that_tells_the_new_one(old, caplog):
    new, value = OLD[old]
    assert flat(Config.from_config_dict(with_values(**{old: value}))) == flat(Config()) | {new: value}
    (told,) = caplog.messages
    assert told.startswith(f"config.{old} is called config.{new} now: ")


def test_all_old_names_are_those_above():
    assert fields.old_names(Config()) == {old: new for old, (new, _) in OLD.items()}


def test_an_old_name_and_the_new_one_must_agree():
    agreeing = with_values(**{"segmenter.views": 8, "segmenter.test_time_augmentation": 8})
    assert Config.from_config_dict(agreeing).segmenter.test_time_augmentation == 8
    message = (
        "config.classifier.family = 'timm': is config.classifier.conventions now, which is 'torchvision': give one"
    )
    with pytest.raises(ValueError, match=message):
        Config.from_config_dict(with_values(**{"classifier.family": "timm", "classifier.conventions": "torchvision"}))


def test_old_names_in_json_are_read_in_silence(caplog):
    values = json.loads(Config().to_json())
    for model in ("segmenter", "classifier"):
        values[model]["views"] = 9 - values[model].pop("test_time_augmentation")
        values[model]["family"] = "timm"
        del values[model]["conventions"]
        values[model]["training"]["resident"] = not values[model]["training"].pop("on_device_data")
    read = flat(Config.from_json(json.dumps(values)))
    changed = {new: "timm" if new.endswith("conventions") else value for new, value in OLD.values()}
    assert read == flat(Config()) | changed and not caplog.messages


def test_descriptions_say_default_meaning_and_what_is_accepted():
    described = {one.name: one for path, part in fields.sections(Config()) for one in fields.describe(part, path)}
    defaults = {name: one.default for name, one in described.items() if ".NAME." not in name}
    assert defaults == flat(Config())
    assert all(one.meaning for one in described.values())
    assert described["classifier.training.epochs"] == fields.Description(
        "classifier.training.epochs", 50, "Passes over the training images", "at least 1"
    )


@pytest.mark.parametrize("field", sorted(set(FIELDS) - {"segmenter.training.sampling"}))  # which only a classifier has
def test_what_is_described_is_what_is_checked(field):
    described = {one.name: one for path, part in fields.sections(Config()) for one in fields.describe(part, path)}
    with pytest.raises(ValueError) as caught:
        Config.from_config_dict(with_values(**{field: FIELDS[field][1]}))
    assert str(caught.value).endswith((described[field].accepted or "nothing", type(flat(Config())[field]).__name__))


@pytest.mark.parametrize("name", sorted(path.stem for path in tiny.CONFIGS.glob("*.py")) + ["ham10000:quick"])
def test_shipped_configs_are_accepted(name):
    shipped = Config.from_config_dict(tiny.shipped(name))
    assert shipped.data.collection == {"released": "image_folder", "dermoscopy": ""}.get(name, name.partition(":")[0])
    if shipped.data.collection in ("isic2019", "isic2020"):
        assert shipped.data.collections == {"ham10000": config.Source(use="masks")}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"classes": "cat"}, "classes = 'cat': must be two names or more"),
        ({"classes": "cat,,dog"}, "none of them empty"),
        ({"classes": "cat,CAT"}, "there twice in any case"),
        ({"classes": "cat,error"}, "none of error, unfamiliar, neither"),
        ({"classes": "cat,a|b"}, "printed characters but |"),
        ({"classes": "cat,a\nb"}, "printed characters"),
        ({"classes": "cat,e\u0301"}, "composed form"),
        ({"classes": ",".join(map(str, range(1001)))}, "at most 1000 names"),
        ({"positive": "cat"}, "positive = 'cat': must be some of data.classes = ''"),
        ({"classes": "cat,dog", "positive": "cat,dog"}, "and not all"),
        ({"classes": "cat,dog", "target": "diagnosis"}, "target = 'diagnosis': must be left as it is"),
        ({"classes": "cat,dog", "collection": "ham10000"}, "one collection that is read as image_folder"),
    ],
)
def test_own_classes_that_cannot_be(values, told):
    with pytest.raises(ValueError, match=told):
        config.Data(**{"collection": "image_folder"} | values)


@pytest.mark.parametrize("section", [config.Segmenter, config.Classifier])
def test_an_own_augmentation_is_a_name_and_needs_the_host(section):
    extra = config.Augmentation(extra="mine.hairs:drawn")
    assert section(augmentation=extra).augmentation.extra == "mine.hairs:drawn"
    with pytest.raises(ValueError, match="augmentation.extra = .*: must be '' with training.on_device_data"):
        section(augmentation=extra, training=dataclasses.replace(section().training, on_device_data=True))
    with pytest.raises(ValueError, match="extra = 'hairs': must be"):
        config.Augmentation(extra="hairs")
    with pytest.raises(ValueError, match="metric_logger = 'wandb': must be"):
        Config(metric_logger="wandb")
