"""A run: its config, what its stages share, and its workdir, of which only this module knows what files are called."""

import dataclasses
import functools
import importlib.metadata
import json
import pathlib
import platform
import shutil
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from segfusion_jax import __version__
from segfusion_jax.config import Config
from segfusion_jax.datasets import prepared
from segfusion_jax.datasets.classes import Told
from segfusion_jax.datasets.identity import Digests
from segfusion_jax.datasets.prepared import Prepared
from segfusion_jax.datasets.table import Row
from segfusion_jax.evaluation.novelty import Novelty
from segfusion_jax.input import mask_store
from segfusion_jax.input.examples import Examples
from segfusion_jax.input.mask_store import MaskRow, MaskStore
from segfusion_jax.models.from_config import find_pretrained
from segfusion_jax.pipeline import released
from segfusion_jax.pipeline.networks import Networks
from segfusion_jax.pipeline.split import Split
from segfusion_jax.runtime.atomic import read_table, write_table, write_text
from segfusion_jax.runtime.devices import Devices, make_devices
from segfusion_jax.runtime.revision import revision
from segfusion_jax.serving.ensembles import (
    Classes,
    ClassifierEnsemble,
    SegmenterEnsemble,
    WholeImages,
    make_segmenters,
)
from segfusion_jax.serving.model_folder import NOVELTY
from segfusion_jax.training import metric_log
from segfusion_jax.training.trainer import Trainer

LAYOUT = 2
"""The number of the workdir's layout, raised when folders or files get other names. Version 0.1 wrote none."""

_WEIGHTS = "weights.safetensors"
_PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy")


class Run:
    """One config in one workdir.

    A stage is a function of a run: it reads what the stages before wrote, and writes the folder that bears its name.

    Args:
      config: the experiment.
      workdir: its folder, which need not be there yet.
      stages: names of the stages that are asked for.
    """

    def __init__(self, config: Config, workdir: pathlib.Path, stages: Sequence[str] = ()):
        self.config = config
        self.workdir = workdir
        self.stages = tuple(stages)

    @classmethod
    def open(cls, workdir: pathlib.Path) -> Self:
        """Returns the run that wrote `workdir`.

        Raises:
          FileNotFoundError: no run wrote it.
          ValueError: a version of segfusion_jax with another layout wrote it.
        """
        run = cls(Config(), workdir)
        written = run.read_settings()
        if written is None:
            raise FileNotFoundError(f"{run._settings} is not there: {workdir} is not the workdir of a run")
        run.config = Config.from_json(json.dumps(written["config"]))
        return run

    # What the stages share, each made when it is first asked for.

    @functools.cached_property
    def devices(self) -> Devices:
        """All devices of all processes."""
        return make_devices(self.config.parallel)

    @functools.cached_property
    def digests(self) -> Digests:
        """What is known of the content of the images' files, so that each is read once."""
        return prepared.known_digests(self.records)

    @functools.cached_property
    def prepared(self) -> Prepared:
        """The images, as the stage `prepare` stored and dealt them."""
        return prepared.load(self.records, self.folder("prepare"))

    @functools.cached_property
    def rows(self) -> tuple[Row, ...]:
        """What is known of every image; without opening the records."""
        return prepared.read_rows(self.folder("prepare"))

    @property
    def is_prepared(self) -> bool:
        """Whether the images have been dealt."""
        return self.done("prepare") is not None

    @functools.cached_property
    def audit(self) -> dict[str, Any]:
        """What the stage `prepare` found, as `datasets.audit.audit` returns it."""
        return prepared.read_audit(self.folder("prepare"))

    @functools.cached_property
    def classes(self) -> Classes:
        """What is to be told apart."""
        coarse = {name: tuple(possible) for name, possible in self.audit.get("coarse", {}).items()}
        return Classes.of(Told(tuple(self.audit["classes"]), coarse), self.config.data)

    @functools.cached_property
    def networks(self) -> Networks:
        """Makes the networks that the stages `segment` and `classify` train."""
        return Networks(self.config, self.devices)

    @functools.cached_property
    def trainer(self) -> Trainer:
        """Trains them."""
        return Trainer(self.devices, self.config)

    @functools.cached_property
    def split(self) -> Split:
        """Which of them train, choose and test what."""
        return Split(self.config, self.prepared.rows)

    @functools.cached_property
    def segmenters(self) -> SegmenterEnsemble | WholeImages:
        """The U-Nets that the stage `segment` trained, or a released model's."""
        return make_segmenters(self.config, self.devices, self.unet_weights)

    @functools.cached_property
    def masks(self) -> MaskStore:
        """The masks that the stage `bridge` wrote."""
        return MaskStore(self.folder("bridge"))

    @functools.cached_property
    def classifiers(self) -> ClassifierEnsemble:
        """The classifiers that the stage `classify` trained."""
        return ClassifierEnsemble(self.config, self.devices, self.classifier_weights, self.classes)

    def bridged(self, rows: Sequence[Row], *, scaled_decoding: bool = False) -> Examples:
        """Returns the bridged images of `rows`; `scaled_decoding` as in `Examples`."""
        size, bridge = self.config.classifier.image_size, self.config.bridge
        return Examples(self.prepared, rows, size, self.masks, bridge, scaled_decoding=scaled_decoding)

    @functools.cached_property
    def pretrained(self) -> dict[str, pathlib.Path]:
        """The weight files that networks start from, by section of the config; published ones are downloaded."""
        sections = {"segmenter": self.config.segmenter, "classifier": self.config.classifier}
        return {name: find_pretrained(section) for name, section in sections.items() if section.pretrained}

    # Folders and files that others write into or show.

    def folder(self, stage: str) -> pathlib.Path:
        """Returns the folder that a stage writes."""
        return self.workdir / stage

    @property
    def lock(self) -> pathlib.Path:
        """The file that a running process holds."""
        return self.workdir / "lock"

    @property
    def records(self) -> pathlib.Path:
        """The folder of the prepared records, which several runs may share."""
        named = self.config.data.records
        return pathlib.Path(named).expanduser() if named else self.workdir / "records"

    def unet_folder(self, fold: int) -> pathlib.Path:
        """Returns the folder of the U-Net that never saw `fold`."""
        return self.folder("segment") / f"fold_{fold}"

    @property
    def unet_weights(self) -> list[pathlib.Path]:
        """The weight files of the U-Nets that make masks: by the fold that each never saw, or a released model's.

        There are none where the classifier sees whole images and none is trained.
        """
        if self.config.bridge.released:
            return released.unets(self.config)
        return [self.unet_folder(fold) / _WEIGHTS for fold in range(self.num_unets)]

    @property
    def num_unets(self) -> int:
        """How many U-Nets are trained."""
        return self.config.splits.num_folds if Split(self.config, self.rows).has_unets else 0

    @property
    def classifier_folders(self) -> list[pathlib.Path]:
        """The folder of the classifier; those of an ensemble, by the fold that each is not trained on."""
        if not self.config.classifier.fold_ensemble:
            return [self.folder("classify")]
        return [self.folder("classify") / f"fold_{fold}" for fold in range(self.config.splits.num_folds)]

    @property
    def classifier_weights(self) -> list[pathlib.Path]:
        """The weight files of the classifiers, in the order of their folders."""
        return [folder / _WEIGHTS for folder in self.classifier_folders]

    @property
    def figures(self) -> pathlib.Path:
        """The folder of the figures that the stage `evaluate` draws."""
        return self.folder("evaluate") / "figures"

    @property
    def page(self) -> pathlib.Path:
        """The report, an HTML page."""
        return self.folder("report") / "index.html"

    @property
    def summary(self) -> pathlib.Path:
        """The report in Markdown."""
        return self.folder("report") / "summary.md"

    @property
    def model(self) -> pathlib.Path:
        """The folder that `SegFusion.load` reads."""
        return self.workdir / "model"

    # The settings, and what is done.

    @property
    def _settings(self) -> pathlib.Path:
        return self.workdir / "config.json"

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing in the workdir but what a run leaves that was stopped before it began."""
        ours = (self.lock.name, f".{self._settings.name}.")
        return not self.workdir.is_dir() or all(path.name.startswith(ours) for path in self.workdir.iterdir())

    def read_settings(self) -> dict[str, Any] | None:
        """Returns `config`, `files`, `versions` and `longer`, as the run wrote them that the workdir belongs to; None
        without such a run.

        Raises:
          ValueError: a version of segfusion_jax with another layout wrote it.
        """
        if not self._settings.exists():
            return None
        written = json.loads(self._settings.read_text())
        if written.get("layout") != LAYOUT:
            raise ValueError(
                f"{self.workdir} was written by {_version_of(written)} of segfusion_jax, which gives its folders other "
                "names. Give another --workdir, or go on with that version"
            )
        return written

    def write_settings(self, files: Mapping[str, str], longer: Mapping[str, Sequence[int]]) -> None:
        """Writes the config, with the digests of the files that it names, and the versions of what began the run.

        Args:
          files: of `dependence.files`.
          longer: as the property of this name returns it.
        """
        libraries = {name: importlib.metadata.version(name) for name in _PACKAGES}
        own = {"segfusion_jax": __version__} | ({"commit": commit} if (commit := revision()) else {})
        versions = own | libraries | {"python": platform.python_version()}
        settings = {"layout": LAYOUT, "config": json.loads(self._located().to_json()), "files": dict(files)}
        if self.is_prepared:
            versions = self.versions
        self._write(settings | {"versions": versions, "longer": dict(longer)})

    @property
    def longer(self) -> dict[str, list[int]]:
        """For how many epochs a stage was trained before it was trained for longer, one number each time; by stage."""
        return (self.read_settings() or {}).get("longer", {})

    def write_longer(self, longer: Mapping[str, Sequence[int]]) -> None:
        """Writes what `longer` then returns."""
        kept = {stage: list(epochs) for stage, epochs in longer.items() if epochs}
        self._write({**(self.read_settings() or {}), "longer": kept})

    def _write(self, settings: Mapping[str, Any]) -> None:
        content = json.dumps(settings, indent=2) + "\n"
        if not self._settings.exists() or self._settings.read_text() != content:
            write_text(self._settings, content)

    def _located(self) -> Config:
        """Returns the config with the folder of the records as it is found from wherever a command is started."""
        if not self.config.data.records:
            return self.config
        return dataclasses.replace(
            self.config, data=dataclasses.replace(self.config.data, records=str(self.records.absolute()))
        )

    @property
    def versions(self) -> dict[str, str]:
        """The versions of what made the run."""
        return (self.read_settings() or {})["versions"]

    def done(self, stage: str) -> str | None:
        """Returns the fingerprint under which a stage was done; None where it is not done."""
        marker = self._marker(stage)
        return json.loads(marker.read_text())["fingerprint"] if marker.exists() else None

    def has_begun(self, stage: str) -> bool:
        """Returns whether a stage has written anything."""
        folder = self.folder(stage)
        return folder.is_dir() and any(folder.iterdir())

    def forget(self, stage: str) -> None:
        """Makes a stage one that is not done; what it wrote stays."""
        self._marker(stage).unlink(missing_ok=True)

    def clear(self, stage: str) -> None:
        """Removes what a stage wrote."""
        shutil.rmtree(self.folder(stage), ignore_errors=True)

    def has_store(self, name: str) -> bool:
        """Returns whether the record store called `name` is there and whole."""
        return (self.records / name / "images.csv").exists()

    def mark_done(self, stage: str, fingerprint: str, seconds: float) -> None:
        """Writes that a stage is done, under which fingerprint, and how long it took."""
        content = {"fingerprint": fingerprint, "seconds": round(seconds, 1)}
        write_text(self._marker(stage), json.dumps(content) + "\n")

    @property
    def seconds(self) -> dict[str, float]:
        """How long each stage took that is done, in the order of their names."""
        markers = sorted(self.workdir.glob("*/done.json"))
        return {marker.parent.name: json.loads(marker.read_text())["seconds"] for marker in markers}

    def _marker(self, stage: str) -> pathlib.Path:
        return self.folder(stage) / "done.json"

    # What the stages write, one method to read and one to write each.

    def write_masks(self, masks: Iterable[tuple[MaskRow, bytes]]) -> None:
        """Writes the masks of the bridge, which `masks` then reads."""
        mask_store.write(self.folder("bridge"), masks)

    def read_histories(self) -> dict[str, list[dict[str, Any]]]:
        """Returns the metrics of each step and each epoch, by the name of the network."""
        folders = {f"unet_{fold}": self.unet_folder(fold) for fold in range(self.num_unets)}
        for number, folder in enumerate(self.classifier_folders):
            folders[f"classifier_{number}" if self.config.classifier.fold_ensemble else "classifier"] = folder / "all"
        return {name: metric_log.read(folder / "metrics.jsonl") for name, folder in folders.items()}

    def read_scores(self) -> list[dict[str, str]]:
        """Returns the table of `write_scores`."""
        return read_table(self.folder("score") / "segmentation.csv")

    def write_scores(self, columns: Sequence[str], rows: Iterable[Sequence]) -> None:
        """Writes how well predicted masks meet annotations, an image a row."""
        write_table(self.folder("score") / "segmentation.csv", columns, rows)

    def read_metrics(self) -> dict[str, Any]:
        """Returns the metrics of the run on its test images."""
        return json.loads((self.folder("evaluate") / "metrics.json").read_text())

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Writes the metrics of the run."""
        write_text(self.folder("evaluate") / "metrics.json", json.dumps(metrics, indent=2) + "\n")

    def read_predictions(self, name: str = "predictions") -> list[dict[str, str]]:
        """Returns the table of `write_predictions`, as text."""
        return read_table(self.folder("evaluate") / f"{name}.csv")

    def write_predictions(self, name: str, columns: Sequence[str], rows: Iterable[Sequence]) -> None:
        """Writes what is predicted, an image a row: "predictions" of test images, or "validation"."""
        write_table(self.folder("evaluate") / f"{name}.csv", columns, rows)

    @property
    def novelty(self) -> pathlib.Path:
        """The file by which unfamiliar images are told."""
        return self.folder("evaluate") / NOVELTY

    def write_novelty(self, novelty: Novelty) -> None:
        """Writes by what unfamiliar images are told."""
        novelty.save(self.novelty)


def _version_of(settings: Mapping[str, Any]) -> str:
    named = settings.get("versions", {}).get("segfusion_jax", "not installed")
    return "another version" if named == "not installed" else f"version {named}"
