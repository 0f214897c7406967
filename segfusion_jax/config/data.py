"""The sections of a config that say which images are read: one collection, or several with what each is for."""

import dataclasses
import re
import unicodedata
from collections.abc import Callable
from typing import Any

from segfusion_jax.config.fields import (
    Accepted,
    Named,
    Section,
    at_least,
    field,
    in_range,
    is_plugin,
    one_of,
    plugin,
    refuse,
    sides,
)

COLLECTIONS = (
    *("synthetic", "ham10000", "isic2017", "isic2018", "isic2019", "isic2020", "isic2024"),
    *("ph2", "image_folder"),
)

_MOST, _LONGEST = 1000, 200  # classes, characters of one
_TAKEN = ("error", "unfamiliar", "neither")  # what tables and summaries say beside the names of classes

USES = ("all", "train", "test", "masks")
_LEVELS = tuple(map(str, range(256)))
_READING = Accepted(
    "'auto', 'above_128', 'nonzero', 'inverted' or a grey level from '0' to '255'",
    lambda value: value in ("auto", "above_128", "nonzero", "inverted", *_LEVELS),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source(Section):
    """One of several collections, and what it is for."""

    reader: str = field("", plugin("", *COLLECTIONS))
    """How its files are laid out; "" = as those of the collection NAME."""
    root: str = field("")
    """Folder or zip of its files; "" looks for NAME/ in the folders of SEGFUSION_DATA."""
    use: str = field("all", one_of(*USES))
    """All splits; only "train" or only "test"; or "masks", which train U-Nets, without labels."""
    weight: float = field(1.0, in_range(0, 1000))
    """Times its share of the draws, as training.shares has it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data(Section):
    """Which images are read, and what happens to those that cannot be."""

    collection: str = field("synthetic", one_of("", *COLLECTIONS))
    """The images; "" = those of data.collections alone."""
    root: str = field("")
    """Folder or zip of its files; "" looks for <collection>/ in the folders of SEGFUSION_DATA."""
    collections: dict[str, Source] = field({})
    """Further collections, by name: {"isic2017": {"use": "test"}}; or more on data.collection."""
    download: bool = field(False)
    """Fetch what is published without a login, where no folder is found."""
    records: str = field("")
    """Where prepared records are kept; "" = <workdir>/records."""
    on_error: str = field("raise", one_of("raise", "skip"))
    """At an unusable file "raise" stops, "skip" leaves it out and lists it."""
    target: str = field("malignant", one_of("malignant", "melanoma", "diagnosis"))
    """What is told apart: malignant, or melanoma, from all else; or "diagnosis": all classes."""
    classes: str = field("")
    """Your own classes, in place of data.target, by commas: "cat_a,cat_b"; labels and folders are called so."""
    positive: str = field("")
    """Those of data.classes that are looked for, by commas; "" = none is, and only the classes are told apart."""
    labels: str = field("")
    """Label map of an image_folder's table ("segfusion check"); "" = labels.toml in it, if any."""
    group: str = field("")
    """Columns of an image_folder by which images belong together, beside patients and lesions; "folder", "none"."""
    akiec: str = field("malignant", one_of("malignant", "by_isic2019", "exclude"))
    """HAM10000's "akiec" (327 images); "by_isic2019" calls 130 AK and 197 SCC."""
    actinic_keratosis: str = field("malignant", one_of("malignant", "benign", "exclude"))
    """ISIC 2019's "AK" (867 images)."""
    size: tuple[int, int] = field((1024, 1024), sides(32))
    """Height and width in pixels that stored images fit into."""
    aspect: str = field("keep", one_of("keep", "stretch", "letterbox", "crop"))
    """Fit within data.size; or fill it: "stretch", "letterbox" (black borders), "crop" (the centre)."""
    resampling: str = field("area", one_of("area", "bilinear", "bicubic", "lanczos"))
    """Filter that resizes."""
    illumination: str = field("as_is", one_of("as_is", "even"))
    """Colours as they are; or "even", as under white light (shades of grey)."""
    mask_lesion: str = field("auto", _READING)
    """What of a mask is lesion, where "auto" cannot tell: "inverted": what is dark; "1": this level."""
    mask_ignored: int = field(-1, in_range(-1, 255))
    """Level of a mask that nobody judged, which counts as skin; -1 = there is none."""
    synthetic_images: int = field(600, at_least(20))
    """Images that the synthetic collection draws."""
    synthetic_seed: int = field(0, at_least(0))
    """Seed of what it draws."""

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "collections", Named(self.collections))
        for name, source in self.collections.items():
            if not re.fullmatch(r"[a-z0-9_]+", name):
                raise ValueError(f"collections.{name}: names must be of small letters, digits and _")
            if not source.reader and name not in COLLECTIONS:
                accepted = f"one of {', '.join(COLLECTIONS)}, since {name!r} is none of them"
                raise ValueError(f"collections.{name}.reader = '': must be {accepted}")
        if not self.own:
            refuse(self, "collections", 'at least one whose use is not "masks"')
        if self.collections and self.collection == "synthetic" and "synthetic" not in self.collections:
            refuse(self, "collection", 'the first collection, or "" with those of data.collections alone')
        self._check_classes()

    def _check_classes(self) -> None:
        names, sought = self.own_classes, self.own_positive
        if self.classes and (len(names) < 2 or "" in names or len({name.casefold() for name in names}) < len(names)):
            refuse(self, "classes", "two names or more, by commas, none of them empty or there twice in any case")
        if not all(map(_is_name, names)) or len(names) > _MOST:
            accepted = f"at most {_MOST} names of at most {_LONGEST} characters, in Unicode's composed form (NFC), "
            refuse(self, "classes", f"{accepted}of printed characters but |, and none of {', '.join(_TAKEN)}")
        if self.positive and not set(sought) < set(names):
            refuse(self, "positive", f"some of data.classes = {self.classes!r}, and not all")
        if self.classes and self.target != "malignant":
            refuse(self, "target", "left as it is where data.classes says what is told apart")
        readers = [self.sources[name].reader or name for name in self.own]
        if self.classes and (len(readers) > 1 or readers != ["image_folder"] and not is_plugin(readers[0])):
            accepted = "empty, unless the images are one collection that is read as image_folder or by your own reader"
            refuse(self, "classes", f"{accepted}; these are {', '.join(self.own)}")

    @property
    def own_classes(self) -> tuple[str, ...]:
        """The names in `classes`, in their order; none where the collections say what is told apart."""
        return _names(self.classes)

    @property
    def own_positive(self) -> tuple[str, ...]:
        """The names in `positive`."""
        return _names(self.positive)

    @property
    def sources(self) -> dict[str, Source]:
        """All collections by name."""
        if not self.collection:
            return self.collections
        first = self.collections.get(self.collection, Source())
        return {self.collection: dataclasses.replace(first, root=self.root or first.root)} | {
            name: source for name, source in self.collections.items() if name != self.collection
        }

    @property
    def own(self) -> tuple[str, ...]:
        """The names of the collections whose images are classified, which are all that bring not only masks."""
        return tuple(name for name, source in self.sources.items() if source.use != "masks")

    @property
    def name(self) -> str:
        """What all of `own` are called together."""
        return "+".join(self.own)

    @classmethod
    def renewed(cls, values: dict[str, Any], tell: Callable[[str, str], None]) -> dict[str, Any]:
        """Returns fields in today's form, of which those of the version before may have a `mask_collection`.

        Args:
          values: the fields, nested.
          tell: is called with the old and the new name of each.
        """
        values = dict(values)
        masks, folder = values.pop("mask_collection", ""), values.pop("mask_root", "")
        sources = values.get("collections", {})
        if not masks and folder:  # of a config that names the collection of the masks in today's form
            masks = next((name for name, source in sources.items() if source.get("use") == "masks"), "")
        if masks and masks != values.get("collection"):
            tell("mask_collection", f"collections.{masks}.use = 'masks'")
            given = {"use": "masks"} | ({"root": folder} if folder else {})
            values["collections"] = {**sources, masks: {**sources.get(masks, {}), **given}}
        return values


def _is_name(name: str) -> bool:
    """Returns whether a class of somebody's own may be called so, in tables and on pages, too."""
    is_plain = name.isprintable() and "|" not in name and name == unicodedata.normalize("NFC", name)
    return is_plain and len(name) <= _LONGEST and name.casefold() not in _TAKEN


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",")) if text.strip() else ()
