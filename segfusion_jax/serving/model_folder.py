"""The folder of a released model: which files it has, that they are as they were made, and what its metadata say.

    manifest.json         SHA-256 of each of the files below
    metadata.json         what the weights are, and all that must be known to use them
    *.safetensors         weights, and `novelty.safetensors`, by which unfamiliar images are told
    split.csv             which images they learned from

It may come from anybody. So every field is typed and bounded before anything is built of it.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from segfusion_jax.config import Config
from segfusion_jax.datasets import table
from segfusion_jax.evaluation.calibration import Calibration
from segfusion_jax.runtime import regular, typed
from segfusion_jax.runtime.atomic import write_text
from segfusion_jax.serving.manifest import BYTES as JSON_BYTES
from segfusion_jax.serving.manifest import MANIFEST as MANIFEST
from segfusion_jax.serving.manifest import METADATA as METADATA
from segfusion_jax.serving.manifest import REMEDY, listed_files, plain

NOVELTY = "novelty.safetensors"
"""Name of the file by which unfamiliar images are told."""
SPLIT = "split.csv"
"""Name of the file that says which images they learned from."""

DECISIONS = ("sensitivity", "specificity")
"""What is said of an operating point."""
ELSEWHERE = "elsewhere"
"""Name of the field of the metadata that says what a model reached on collections that it was not trained on."""

BYTES = 1 << 30
"""A file of a model has at most so many."""
_NETWORKS = 64  # of a kind
_CLASSES = 1000
_SIDE = 4096  # pixels of the images that a network takes
_STORED_SIDE = 16384  # pixels of the images that are prepared for it
_FILTERS = 256
_DRAWN = 100_000  # synthetic images
_NEEDED = (*("config", "unets", "classifiers", "classes", "positive", "num_logits", "temperature", "shift", "metrics"),)
_DECIDED = ("prevalence", "threshold")  # of models some of whose classes are looked for
_ENDS = ("value", "low", "high")


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What metadata.json says, as far as the package uses it.

    Attributes:
      config: config of the run that trained the models.
      unets: names of the U-Nets' weight files; none where the bridge takes whole images.
      classifiers: names of the classifiers' weight files, at least one.
      classes: names of what they tell apart, at least two.
      positive: whether each class counts as malignant, or is looked for; some do, some do not; of somebody's own
        classes none need do.
      num_logits: one a class, or 1 of two classes.
      calibration: what is done to their logits.
      prevalence: share of malignant images, in (0, 1), for which the probabilities then hold; None where no class is
        positive.
      threshold: probability in [0, 1] from which an image is called malignant; None where no class is positive.
      operating_points: aim, level and threshold of each, which `metrics` state, and `tested`.
      home: what `metrics` state of the model's own test images, each a value with the ends of its interval: `roc_auc`,
        `ece`, `sensitivity` and `specificity` at `threshold`, `dice`.
      home_images: how many of them were classified; 0 = not stated.
      home_collections: the same of each collection that it learned from, where there are several, by name.
      elsewhere: the same of collections that it was not trained on, where they were evaluated and added: `title`, `n`
        and `found`, which is as `home`.
      shares: share of each class in training, for several diagnoses; else empty.
      data: which collections the models learned from, where they are and under which licences.
      plugins: SHA-256 of the code of each part that somebody else wrote, by its name; it is no part of the model.
    """

    config: Config
    unets: tuple[str, ...]
    classifiers: tuple[str, ...]
    classes: tuple[str, ...]
    positive: tuple[bool, ...]
    num_logits: int
    calibration: Calibration
    prevalence: float | None
    threshold: float | None
    operating_points: tuple[dict[str, Any], ...]
    home: dict[str, dict[str, float]]
    home_images: int
    home_collections: dict[str, dict[str, Any]]
    elsewhere: tuple[dict[str, Any], ...]
    shares: tuple[float, ...]
    data: tuple[dict[str, str], ...]
    plugins: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files that the model consists of, beside the manifest."""
        return (METADATA, NOVELTY, SPLIT, *self.unets, *self.classifiers)

    @property
    def tested(self) -> dict[str, dict[str, float]]:
        """What `home` says of decisions."""
        return {name: self.home[name] for name in DECISIONS if name in self.home}


@dataclasses.dataclass(frozen=True)
class ModelFolder:
    """A model folder whose files were found to be as its manifest says.

    Attributes:
      path: the folder.
      digest: SHA-256 of the manifest, which tells the model, in hexadecimal digits.
      files: SHA-256 of each file by its name.
      metadata: what metadata.json says.
    """

    path: pathlib.Path
    digest: str
    files: Mapping[str, str]
    metadata: Metadata

    def read_parts(self) -> list[table.Part]:
        """Returns what each image was used for.

        Raises:
          ValueError: split.csv is no such table.
        """
        return table.read_parts(self.path / SPLIT)


def open_folder(folder: str | pathlib.Path) -> ModelFolder:
    """Checks the folder of a released model, or the folder `model` in it, file by file.

    Raises:
      FileNotFoundError: neither is a model's, or a file that it consists of is missing.
      ValueError: a file is not as the manifest says, or the metadata have a field out of its bounds; names it.
    """
    path = find(folder)
    metadata = read_metadata(path)
    content = _manifest(path)
    files = listed_files(typed.Fields(typed.parse(content, path / MANIFEST), path / MANIFEST))
    found = _digests(path, files)
    differing = [name for name, digest in files.items() if found[name] != digest]
    if differing:
        raise ValueError(f"{path}: {', '.join(differing)} was changed since {MANIFEST} was written: {REMEDY}")
    unlisted = [name for name in metadata.files if name not in files]
    if unlisted:
        raise ValueError(f"{path / MANIFEST} does not name {', '.join(unlisted)}: {REMEDY}")
    return ModelFolder(path, hashlib.sha256(content).hexdigest(), files, metadata)


def write_manifest(folder: str | pathlib.Path) -> None:
    """Writes the SHA-256 of each file of a model, of which all others must be there.

    Raises:
      FileNotFoundError: one is not.
      ValueError: the metadata have a field out of its bounds.
    """
    path = pathlib.Path(folder)
    files = _digests(path, sorted(read_metadata(path).files))
    write_text(path / MANIFEST, json.dumps({"files": files}, indent=2) + "\n")


def state_elsewhere(folder: pathlib.Path, found: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes into a model's metadata what it reached on collections that it was not trained on, and the manifest anew.

    Args:
      folder: the model's.
      found: content of metrics.json by the collections' titles; what was stated of these before is replaced.

    Raises:
      ValueError: a file was changed since the folder was made, which a new manifest would hide; or what was found is
        out of its bounds, such as not finite. Nothing is written then.
    """
    path = open_folder(folder).path
    content = typed.parse(regular.read(path / METADATA, JSON_BYTES), path / METADATA)
    kept = [one for one in content.get(ELSEWHERE, []) if one["title"] not in found]
    shown = {"classification": ("n", "roc_auc", "ece", *DECISIONS), "segmentation": ("dice",)}
    for title, metrics in found.items():
        sections = {
            section: {name: metrics[section][name] for name in names if name in metrics[section]}
            for section, names in shown.items()
            if section in metrics
        }
        kept.append({"title": title, "metrics": sections})
    written = json.dumps(content | {ELSEWHERE: kept}, indent=2) + "\n"
    _metadata(typed.Fields(typed.parse(written.encode(), path / METADATA), path / METADATA))
    write_text(path / METADATA, written)
    write_manifest(path)


def digests(folder: pathlib.Path) -> dict[str, str]:
    """Returns the SHA-256 of the manifest, which tells the model, and of each file that it names.

    Raises:
      FileNotFoundError: one is missing.
    """
    opened = open_folder(folder)
    return {MANIFEST: opened.digest, **opened.files}


def read_metadata(folder: pathlib.Path) -> Metadata:
    """Returns what metadata.json says.

    Raises:
      FileNotFoundError: there is none.
      ValueError: a field is missing, of another type or out of its bounds; names it.
    """
    path = folder / METADATA
    return _metadata(typed.Fields(typed.read(path, JSON_BYTES), path))


def _metadata(fields: typed.Fields) -> Metadata:
    path = fields.where
    lacking = [name for name in _NEEDED if name not in fields.values]
    if lacking:
        raise ValueError(f"{path} describes no model of segfusion_jax: it holds no {', '.join(lacking)}")
    config, classes = _config(fields), fields.texts("classes", 2, _CLASSES)
    positive = _positive(fields, config, classes)
    num_logits = fields.whole("num_logits", 1, len(classes))
    if num_logits != len(classes) and (num_logits, len(classes)) != (1, 2):
        raise ValueError(f"{path}: num_logits = {num_logits}: must be {len(classes)}, one a class, or 1 of two classes")
    metrics = fields.section("metrics")
    return Metadata(
        config=config,
        unets=tuple(plain(name, path) for name in fields.texts("unets", 0, _NETWORKS)),
        classifiers=tuple(plain(name, path) for name in fields.texts("classifiers", 1, _NETWORKS)),
        classes=classes,
        positive=tuple(name in positive for name in classes),
        num_logits=num_logits,
        calibration=Calibration(
            fields.number("temperature", 1e-3, 1e3), fields.numbers("shift", num_logits, -100, 100)
        ),
        prevalence=fields.number("prevalence", 1e-6, 1 - 1e-6) if positive else None,
        threshold=fields.number("threshold", 0, 1) if positive else None,
        operating_points=tuple(_operating_points(metrics)) if positive else (),
        home=_found(metrics),
        home_images=_images(metrics),
        home_collections=_collections(metrics),
        elsewhere=tuple(_elsewhere(fields)),
        shares=_shares(metrics, classes),
        data=tuple(_data(fields)),
        plugins=dict(_plugins(fields)),
    )


def find(folder: str | pathlib.Path) -> pathlib.Path:
    """Returns a folder that holds a model, or the folder `model` in it, of which nothing is checked yet.

    Raises:
      FileNotFoundError: neither does.
    """
    folder = pathlib.Path(folder).expanduser()
    for path in (folder, folder / "model"):
        if (path / METADATA).exists():
            return path
    where = f"{folder} holds no {METADATA}, nor does its folder 'model'"
    raise FileNotFoundError(f"{where}: give the folder of a released model, or a finished workdir")


def _manifest(path: pathlib.Path) -> bytes:
    try:
        return regular.read(path / MANIFEST, JSON_BYTES)
    except FileNotFoundError:
        told = f"{path} has no {MANIFEST}, so nobody can tell whether its files are as they were made"
        raise FileNotFoundError(f"{told}: {REMEDY}") from None


def _digests(path: pathlib.Path, names: Iterable[str]) -> dict[str, str]:
    digests = {}
    for name in names:
        with regular.opened(path / name) as file:
            if file.seek(0, 2) > BYTES:
                raise ValueError(f"{path / name}: {file.tell()} bytes; at most {BYTES} are read")
            file.seek(0)
            digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def _config(fields: typed.Fields) -> Config:
    values = fields.section("config").values
    try:
        config = Config.from_json(json.dumps(values))
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{fields.where}: {error}") from error
    bounded = {
        "data.size": (config.data.size, _STORED_SIDE),
        "segmenter.image_size": (config.segmenter.image_size, _SIDE),
        "classifier.image_size": (config.classifier.image_size, _SIDE),
        "segmenter.filters": ((config.segmenter.filters,), _FILTERS),
        "data.synthetic_images": ((config.data.synthetic_images,), _DRAWN),
    }
    for name, (sizes, most) in bounded.items():
        if not all(1 <= size <= most for size in sizes):
            shown = sizes if len(sizes) > 1 else sizes[0]
            raise ValueError(
                f"{fields.where}: config.{name} = {shown}: must be at most {most} in a model that is loaded"
            )
    return config


def _positive(fields: typed.Fields, config: Config, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Returns which classes are positive: some, or, of somebody's own classes, those that the config names."""
    own = config.data.own_classes
    positive = fields.texts("positive", 0 if own else 1, len(classes) - 1)
    if not set(positive) < set(classes):
        raise ValueError(f"{fields.where}: positive = {list(positive)}: must be some of classes, {list(classes)}")
    if own and (own, set(config.data.own_positive)) != (classes, set(positive)):
        raise ValueError(
            f"{fields.where}: classes = {list(classes)}, positive = {list(positive)}: must be those of config.data, "
            f"{config.data.classes!r} and {config.data.positive!r}"
        )
    lacking = [name for name in _DECIDED if positive and name not in fields.values]
    if lacking:
        raise ValueError(f"{fields.where} describes no model of segfusion_jax: it holds no {', '.join(lacking)}")
    return positive


def _operating_points(metrics: typed.Fields) -> Iterable[dict[str, Any]]:
    if "operating_points" not in metrics.values:
        return
    for point in metrics.sections("operating_points", 100):
        yield {
            "aim": point.text("aim"),
            "level": point.number("level", 0, 1),
            "threshold": point.number("threshold", 0, 1),
            "tested": _estimates(point, DECISIONS),
        }


def _found(metrics: typed.Fields) -> dict[str, dict[str, float]]:
    """Returns, of metrics.json's sections, the few estimates that tell how well a model does."""
    found = {}
    for section, names in (("classification", ("roc_auc", "ece", *DECISIONS)), ("segmentation", ("dice",))):
        if section in metrics.values:
            found |= _estimates(metrics.section(section), names)
    return found


def _images(metrics: typed.Fields) -> int:
    """Returns how many images were classified; 0 where that is not stated."""
    section = metrics.section("classification") if "classification" in metrics.values else metrics
    return round(section.section("n").number("value", 0, 1e9)) if isinstance(section.values.get("n"), Mapping) else 0


def _collections(metrics: typed.Fields) -> dict[str, dict[str, Any]]:
    if not metrics.values.get("collections"):
        return {}
    sections = metrics.section("collections")
    parts = {name: sections.section(name) for name in sections.values}
    return {name: {"n": _images(part), "found": _found(part)} for name, part in parts.items()}


def _elsewhere(fields: typed.Fields) -> Iterable[dict[str, Any]]:
    for one in fields.sections(ELSEWHERE, 100) if ELSEWHERE in fields.values else ():
        metrics = one.section("metrics")
        yield {"title": one.text("title", 200), "n": _images(metrics), "found": _found(metrics)}


def _estimates(metrics: typed.Fields, names: Iterable[str]) -> dict[str, dict[str, float]]:
    stated = [name for name in names if isinstance(metrics.values.get(name), Mapping)]
    sections = {name: metrics.section(name) for name in stated}
    return {
        name: {end: section.number(end, 0, 1) for end in _ENDS if section.values.get(end) is not None}
        for name, section in sections.items()
    }


def _shares(metrics: typed.Fields, classes: tuple[str, ...]) -> tuple[float, ...]:
    calibration = metrics.section("calibration") if "calibration" in metrics.values else metrics
    if "shares" not in calibration.values:
        return ()
    shares = calibration.section("shares")
    return tuple(shares.number(name, 1e-9, 1) for name in classes)


def _plugins(fields: typed.Fields) -> Iterable[tuple[str, str]]:
    if "plugins" not in fields.values:
        return
    named = fields.section("plugins")
    for field in list(named.values)[:_NETWORKS]:
        part = named.section(field)
        yield part.text("name"), part.text("sha256", 64)


def _data(fields: typed.Fields) -> Iterable[dict[str, str]]:
    for entry in fields.sections("data", 100) if "data" in fields.values else ():
        yield {name: entry.text(name, shortest=0) for name in entry.values}
