"""Models that a run starts from: one whose U-Nets make its masks, and those whose weights its networks take.

What they were trained on or chosen by takes no part in the run: of such images, masks and probabilities are better
than of new ones.
"""

import dataclasses
import hashlib
import logging
import pathlib
from collections.abc import Sequence
from typing import Any

from segfusion_jax.config import Config, Segmenter
from segfusion_jax.datasets import table
from segfusion_jax.datasets.joining import reader
from segfusion_jax.datasets.salted import matches, salted
from segfusion_jax.datasets.table import Part
from segfusion_jax.datasets.unseen import SEEN
from segfusion_jax.models.from_config import find_pretrained
from segfusion_jax.models.pretrained import stored_preprocessing
from segfusion_jax.runtime import locations
from segfusion_jax.serving.model_folder import SPLIT, find, open_folder, read_metadata

_log = logging.getLogger(__name__)

DIGESTS = {"segmenter.": "the U-Nets of bridge.masks", "splits.saw": "what the models saw that the run starts from"}
"""What `digests` gives, by names that are like the fields of the first stage that depends on it."""


@dataclasses.dataclass(frozen=True)
class Base:
    """A model that a run starts from.

    Attributes:
      named: field of the config that names it, and the last part of the path that stands there.
      folder: where it lies; None where only a weight file of ours is known, so that nobody knows what it saw.
    """

    named: str
    folder: pathlib.Path | None

    @property
    def saw(self) -> list[Part]:
        """The images that it was trained on or chosen by."""
        return [part for part in table.read_parts(self.folder / SPLIT) if part.split in SEEN] if self.folder else []

    @property
    def data(self) -> list[dict[str, str]]:
        """The collections that it learned from, as `metadata.json` has them."""
        return list(read_metadata(self.folder).data) if self.folder else []


def bases(config: Config) -> list[Base]:
    """Returns the models that a run starts from. Weights of others than segfusion_jax, as of ImageNet, are none."""
    found = (
        [Base(_named("bridge.masks", config.bridge.masks), maker_of_masks(config))] if config.bridge.released else []
    )
    for name, section in (("segmenter", config.segmenter), ("classifier", config.classifier)):
        path = find_pretrained(section) if section.pretrained else None
        if path and _is_ours(path):
            found.append(Base(_named(f"{name}.pretrained", section.pretrained), _folder_of(path)))
    return found


def maker_of_masks(config: Config) -> pathlib.Path:
    """Returns the folder of the released model that `bridge.masks` names.

    Raises:
      FileNotFoundError: there is no such folder, or no model in it.
    """
    named = config.bridge.released
    if path := locations.find(named):
        return find(path)
    raise FileNotFoundError(
        f"config.bridge.masks = {named!r}: no such folder, nor in those of SEGFUSION_DATA; give that of a released "
        "model, such as released/ham10000, a finished workdir, or 'predicted' or 'annotated'"
    )


def unets(config: Config) -> list[pathlib.Path]:
    """Returns the weight files of the U-Nets of the released model that `bridge.masks` names.

    Raises:
      FileNotFoundError: as `maker_of_masks`.
      ValueError: the model has no U-Net.
    """
    opened = open_folder(maker_of_masks(config))
    if not opened.metadata.unets:
        raise ValueError(
            f"config.bridge.masks = {config.bridge.masks!r}: this model has no U-Net that could make masks"
        )
    return [opened.path / name for name in opened.metadata.unets]


def resolved(config: Config) -> Config:
    """Returns the config with the section `segmenter` of the model whose U-Nets make the masks, if one is named.

    Raises:
      ValueError: it learned from images in another light.
    """
    if not config.bridge.released:
        return config
    made = read_metadata(maker_of_masks(config)).config
    if made.data.illumination != config.data.illumination:
        raise ValueError(
            f"config.bridge.masks = {config.bridge.masks!r}: its U-Nets learned from images of data.illumination = "
            f"{made.data.illumination!r}, and config.data.illumination = {config.data.illumination!r}: must be the same"
        )
    theirs = made.segmenter
    theirs = dataclasses.replace(theirs, pretrained="", pretrained_head="")
    if config.segmenter not in (theirs, Segmenter()):
        _log.info("masks are made by the U-Nets of %s: config.segmenter is theirs", config.bridge.masks)
    return dataclasses.replace(config, segmenter=theirs)


def digests(config: Config) -> dict[str, str]:
    """Returns hashes of the U-Nets that make masks and of what the run's bases saw, by the fields that they belong to.

    There are none of a run that starts from no model.
    """
    parts = {}
    if config.bridge.released:
        parts["segmenter."] = b"".join(path.read_bytes() for path in unets(config))
    if saw := {base.named.partition(" = ")[0]: base.saw for base in bases(config)}:
        parts["splits.saw"] = repr(saw).encode()
    return {field: hashlib.sha256(content).hexdigest() for field, content in parts.items()}


def together(config: Config, rows: Sequence[table.Row]) -> list[Part]:
    """Returns what each image is to a model of this run: of its own images and of what its bases saw, in no fold.

    Images of an image_folder are somebody's own: their names may be patients', so they are salted, by a salt that
    follows from the split; and without hashes of their looks, unless `release.perceptual_hashes` asks for these.
    """
    seen = {part.image_id: part._replace(fold=-1) for base in bases(config) for part in base.saw}
    known = matches((row.image_id for row in rows), seen)
    theirs = {name for name in config.data.sources if reader(name, config.data.sources) == "image_folder"}
    salt = table.split_digest(rows)[:16]

    def part(row: table.Row) -> Part:
        if row.source not in theirs:
            return Part(row.image_id, row.split, row.fold, row.perceptual_hash)
        shown = row.perceptual_hash if config.release.perceptual_hashes else ""
        return Part(salted(row.image_id, salt), row.split, row.fold, shown)

    return [*(part(row) for row in rows if row.image_id not in known), *seen.values()]


def learned_from(config: Config) -> list[dict[str, Any]]:
    """Returns the collections that the run's bases learned from, each once."""
    found = [data for base in bases(config) for data in base.data]
    return [data for place, data in enumerate(found) if data not in found[:place]]


def _named(field: str, value: str) -> str:
    return f"{field} = {pathlib.PurePath(value).name}"


def _is_ours(path: pathlib.Path) -> bool:
    try:
        stored_preprocessing(path)
    except ValueError:
        return False
    return True


def _folder_of(path: pathlib.Path) -> pathlib.Path | None:
    """Returns the released model, or that of the finished workdir, that a weight file is of; None if it is of none."""
    for folder in list(path.absolute().parents)[:3]:  # workdir/segment/fold_0/weights.safetensors
        try:
            return find(folder)
        except FileNotFoundError:
            continue
    return None
