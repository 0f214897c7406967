"""Which config a command line names, and how it changes fields."""

import pytest

from segfusion_jax.commands import config_files
from segfusion_jax.config import Config
from tests import tiny
from tests.test_config import FIELDS, OLD, flat

NAMES = sorted(path.stem for path in tiny.CONFIGS.glob("*.py"))


@pytest.mark.parametrize("name", [*NAMES, "ham10000:quick", "released:paper_unet"])
def test_shipped_configs_are_found_by_name_and_by_path(name, monkeypatch):
    expected = Config.from_config_dict(tiny.shipped(name))
    assert config_files.load(name) == expected
    monkeypatch.chdir(tiny.CONFIGS.parent)
    stem, colon, variant = name.partition(":")
    assert config_files.load(f"configs/{stem}.py{colon}{variant}") == expected


def test_an_installed_package_has_them_inside(tmp_path, monkeypatch):
    assert config_files.folder() == tiny.CONFIGS
    monkeypatch.setattr(config_files, "_PACKAGE", tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "mine.py").write_text(
        "from segfusion_jax import config\n\n\ndef get_config():\n    return config.Config(seed=7).to_config_dict()\n"
    )
    assert config_files.load("mine").seed == 7


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ham1000", rf"--config = 'ham1000': must be one of {', '.join(NAMES)} \(did you mean ham10000\?\), or a path"),
        ("nothing.py", "--config = 'nothing.py': no such file; shipped are dermoscopy, ham10000, "),
    ],
)
def test_an_unknown_config_lists_those_there_are(name, message):
    with pytest.raises(FileNotFoundError, match=message):
        config_files.load(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ham10000:fast", "configs/ham10000.py:fast is not known; quick, paper, protocols are"),
        ("isic2018:quick", "--config = 'isic2018:quick': must be without :quick, since isic2018.py has no variants"),
    ],
)
def test_an_unknown_variant_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        config_files.load(name)


@pytest.mark.parametrize("field", FIELDS)
def test_any_field_is_set_by_its_text(field, tmp_path):
    (tmp_path / "default.py").write_text("from segfusion_jax import config\n\nget_config = config.default\n")
    accepted = FIELDS[field][0]
    changed = config_files.load(str(tmp_path / "default.py"), [f"{field}={accepted}"])
    assert flat(changed) == flat(Config()) | {field: accepted}


def test_changes_are_made_in_their_order_and_a_bool_may_stand_alone():
    changes = ["seed=1", "data.download", "bridge.alpha=1", "seed=2", "data.root=a=b", "splits.table="]
    changed = config_files.load("synthetic", changes)
    assert (changed.seed, changed.data.download, changed.bridge.alpha) == (2, True, 1.0)
    assert (changed.data.root, changed.splits.table) == ("a=b", "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("bridge.mod=dim", "config.bridge.mod = 'dim': unknown field (did you mean bridge.mode?); 'segfusion train"),
        ("epochs=5", "unknown field (did you mean classifier.training.epochs or segmenter.training.epochs?); "),
        ("bridge=dim", "config.bridge = 'dim': unknown field"),
        ("nonsense.x=1", "config.nonsense.x = '1': unknown field; 'segfusion train --help' lists all"),
        ("classifier.training.epochs=five", "config.classifier.training.epochs = 'five': must be of type int"),
        ("classifier.training.epochs=1.5", "config.classifier.training.epochs = '1.5': must be of type int"),
        ("classifier.training.epochs", "config.classifier.training.epochs = None: must be of type int"),
        ("data.download=perhaps", "config.data.download = 'perhaps': must be of type bool"),
        ("bridge.alpha=", "config.bridge.alpha = '': must be of type float"),
        ("bridge.alpha=1.5", "config.bridge.alpha = 1.5: must be in [0, 1]"),
        ("segmenter.image_size=96", "config.segmenter.image_size = (96,): must be (height, width), two whole numbers"),
        (
            "segmenter.image_size=(96",
            "config.segmenter.image_size = ('(96',): must be (height, width), two whole numbers",
        ),
    ],
)
def test_a_change_that_is_not_accepted_is_told_in_one_line(change, message):
    with pytest.raises(ValueError) as caught:
        config_files.load("synthetic", [change])
    assert str(caught.value).startswith("config.") and message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("old", OLD)
def test_an_old_name_still_works_with_one_warning_that_tells_the_new_one(old, caplog):
    new, value = OLD[old]
    assert config_files.load("synthetic", [f"{old}={value}"]) == config_files.load("synthetic", [f"{new}={value}"])
    (told,) = caplog.messages
    assert told.startswith(f"config.{old} is called config.{new} now: ")


def test_the_command_line_counts_more_than_an_old_name_in_a_file(tmp_path):
    path = tmp_path / "old.py"
    path.write_text(
        "from segfusion_jax import config\n\n\ndef get_config():\n"
        "    values = config.default()\n    values.segmenter.views = 8\n    return values\n"
    )
    assert config_files.load(str(path)).segmenter.test_time_augmentation == 8
    assert config_files.load(str(path), ["segmenter.views=1"]).segmenter.test_time_augmentation == 1
    assert config_files.load(str(path), ["segmenter.test_time_augmentation=1"]).segmenter.test_time_augmentation == 1


def test_an_old_name_and_the_new_one_must_agree():
    with pytest.raises(
        ValueError, match="config.segmenter.views = '8': is config.segmenter.test_time_augmentation now"
    ):
        config_files.load("synthetic", ["segmenter.views=8", "segmenter.test_time_augmentation=1"])
