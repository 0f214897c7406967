"""What the columns and the values of anybody's table mean: by their names, or by a label map, `labels.toml`.

A label map says it where names do not. Both parts may be left out:

    [columns]                       # meaning = the column's name in the table
    image = "Bildnummer"
    label = "Histologie"

    [values.label]                  # what the table says = what it means; "" = unknown
    "SSM" = "melanoma"
    "unklar" = ""
"""

import collections
import dataclasses
import re
import tomllib
from collections.abc import Mapping, Sequence

from segfusion_jax.datasets.collections import labels, official
from segfusion_jax.datasets.files import File, composed

MEANINGS = {
    "image": (
        *("image", "image_id", "filename", "file", "isic_id", "img_id", "image_name", "image_file", "img", "img_name"),
        *("image_path", "file_path", "path", "photo", "picture", "bild", "bild_id", "bildname", "datei", "dateiname"),
    ),
    "label": ("label", "dx", "diagnosis", "class", "diagnose", "klasse", "category", "label_name", "class_name"),
    "malignant": ("malignant", "benign_malignant", "target", "malignancy", "bösartig", "maligne"),
    "mask": ("mask", "mask_path", "mask_file", "mask_name", "segmentation", "maske"),
    "patient_id": (
        *("patient_id", "patient", "patient_no", "patient_nr", "patient_number", "patient_code", "patient_key", "pid"),
        *("subject", "subject_id", "patienten_id", "patientennummer", "patienten_nr", "mrn", "person_id", "proband"),
    ),
    "lesion_id": ("lesion_id", "lesion", "lesion_no", "lesion_nr", "lesion_number", "läsion", "läsions_id"),
    "group": ("group", "group_id", "gruppe"),
    "age": ("age", "age_approx", "patient_age", "age_years", "alter"),
    "sex": ("sex", "gender", "patient_sex", "geschlecht"),
    "site": (
        *("site", "localization", "location", "localisation", "anatom_site_general", "anatom_site", "body_site"),
        *("anatom_site_general_challenge", "lesion_location", "lesion_site", "lokalisation", "körperstelle"),
    ),
    "origin": ("origin", "attribution", "institution", "clinic", "klinik", "center", "centre"),
    "skin_tone": ("skin_tone", "fitzpatrick", "fitzpatrick_skin_type", "fitzpatrick_type", "skin_type", "hauttyp"),
    "split": ("split", "partition", "subset", "set"),
}
"""By what names a column goes that means something, compared by `key`; the first that is there counts."""

GROUPS = ("patient_id", "lesion_id", "group")
"""Meanings of columns by whose values images belong together."""

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "holdout"), "test"),
    "unused": "unused",
}
"""By what names splits go, in tables and as folders."""

_SEXES = {"w": "female", "weiblich": "female", "woman": "female", "männlich": "male", "man": "male"}
_GROUP_WORDS = ("patient", "lesion", "laesion", "läsion", "case", "fall", "visit", "besuch", "subject", "proband")
_GROUP_NAMES = ("pat", "pid", "mrn", "person", "personid", "session", "encounter")
_ATTRIBUTES = (  # what may be told of a patient or a lesion without saying which one it is
    *("age", "sex", "gender", "size", "diameter", "area", "site", "location", "localization", "type", "thickness"),
    *("count", "color", "colour", "shape", "height", "weight", "race", "ethnicity", "history", "tone", "alter"),
)
_NONE = ("unk", "unknown", "other", "others", "none")  # columns of what is no other class
_SUFFIX = "group:"  # told apart from the ids of another collection


@dataclasses.dataclass(frozen=True)
class LabelMap:
    """What a label map says.

    Attributes:
      columns: name of the column in the table, by meaning.
      values: by meaning, what is meant by what the table says, which stands in `key`'s form.
    """

    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    values: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)

    def meant(self, meaning: str, text: str) -> str:
        """Returns what `text` means in a column of this meaning; `text` itself where nothing is said of it."""
        known = {"sex": _SEXES, "split": SPLITS}.get(meaning, {})
        return self.values.get(meaning, {}).get(key(text), known.get(text.strip().lower(), text))


@dataclasses.dataclass(frozen=True)
class Columns:
    """What the columns of a table mean.

    Attributes:
      by_meaning: name of the column by meaning.
      groups: the columns by whose values images belong together: name to meaning, one of GROUPS.
      unused: the others.
      one_hot: the columns, one a class, of which the one that is 1 is the label, where no column is the label.
    """

    by_meaning: Mapping[str, str]
    groups: Mapping[str, str]
    unused: tuple[str, ...]
    one_hot: tuple[str, ...] = ()


def key(name: str) -> str:
    """Returns the form in which names are compared: letters and digits alone, in lower case.

    >>> key("Patient ID") == key("patient_id") == key("PATIENT-ID")
    True
    """
    kept = "".join(letter for letter in composed(name).casefold() if letter.isalnum())
    return kept or name.strip()


def read_label_map(file: File) -> LabelMap:
    """Reads a label map.

    Raises:
      OSError: it cannot be read.
      ValueError: it is no TOML, or maps what there is not.
    """
    try:
        content = tomllib.loads(composed(file.read().decode("utf-8-sig")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{file}: no label map in TOML and UTF-8: {error}") from None
    columns, values = content.pop("columns", {}), content.pop("values", {})
    if content:
        raise ValueError(f"{file}: {', '.join(content)}: must be [columns] and [values.MEANING] alone")
    for what, table in {"columns": columns, "values": values}.items():
        if not isinstance(table, dict) or set(table) - {*MEANINGS, "category"}:
            raise ValueError(f"{file}: [{what}] has {table!r}: must be of {', '.join(MEANINGS)}")
    maps = {"columns": columns, **{f"values.{meaning}": table for meaning, table in values.items()}}
    for what, table in maps.items():
        if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
            raise ValueError(f"{file}: [{what}] has {table!r}: must map texts to texts")
    return LabelMap(columns, {name: {key(old): new for old, new in table.items()} for name, table in values.items()})


def opened(table: File) -> tuple[File, str]:
    """Returns a table in UTF-8, as `official.rows` reads it, and what it was written in.

    A line "sep=;", by which spreadsheets tell each other what separates columns, is left out.

    Raises:
      OSError: it cannot be read.
      ValueError: it is no text.
    """
    content = table.read()
    encoding = "UTF-8"
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "UTF-16"
    else:
        try:
            content.decode("utf-8-sig")
        except UnicodeDecodeError:
            encoding = "cp1252"
    try:
        text = content.decode("utf-8-sig" if encoding == "UTF-8" else encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"{table}: neither UTF-8 nor UTF-16 nor cp1252: {error}; save it as CSV in UTF-8") from None
    if "\0" in text:
        raise ValueError(f"{table}: no text, but bytes of zero in it; save it as CSV in UTF-8")
    text = re.sub(r'\A"?sep=[,;\t]"?[^\S\r\n]*(\r\n|\r|\n)', "", text, flags=re.IGNORECASE)
    return TextFile(table, text.encode()), encoding


@dataclasses.dataclass(frozen=True)
class TextFile:
    """A table in UTF-8, whatever its file is written in."""

    table: File
    content: bytes = dataclasses.field(repr=False)

    @property
    def name(self) -> str:
        """The file's."""
        return self.table.name

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.content)

    @property
    def stamp(self) -> int:
        """The file's."""
        return self.table.stamp

    def read(self) -> bytes:
        """Returns the text."""
        return self.content

    def __str__(self) -> str:
        return str(self.table)


def understand(table: File, names: Sequence[str], label_map: LabelMap, group: str, own: Sequence[str] = ()) -> Columns:
    """Tells what the columns of a table mean.

    Args:
      table: the table, for messages.
      names: the names of its columns.
      label_map: what it says counts; the names of the others are looked up in MEANINGS.
      group: `data.group`.
      own: `Data.own_classes`; where there are some, no column says what is malignant.

    Raises:
      ValueError: columns whose names differ by case, spaces or hyphens only; a column that is named and not there; no
        column of images; a column that looks as if images belonged together by it, and is not used so.
    """
    _refuse_doubles(table, names, set(label_map.columns.values()))
    by_key = {key(name): name for name in names if name}
    found = dict(label_map.columns)
    for meaning, aliases in MEANINGS.items():
        column = next((by_key[key(alias)] for alias in aliases if key(alias) in by_key), None)
        if column and meaning not in found and column not in found.values():
            found[meaning] = column
    asked = [] if group in ("", "none", "folder") else group.split(",")
    for name in (*label_map.columns.values(), *asked):
        if key(name) not in by_key:
            raise ValueError(f"{table}: no column {name!r}; it has {', '.join(names)}")
    if "image" not in found:
        raise ValueError(
            f"{table}: no column of images ({', '.join(MEANINGS['image'])}); it has {', '.join(names)}. Rename one, or "
            'name it in a labels.toml: [columns] image = "NAME"'
        )
    if own:
        found.pop("malignant", "")
    free = [name for name in names if name not in found.values()]
    one_hot = () if "label" in found else _classes(free, label_map, own)
    if "label" not in found and "malignant" in found and not one_hot:
        found["label"] = found.pop("malignant")
    groups = {by_key[key(name)]: "group" for name in asked}
    if group != "none":
        groups |= {found[meaning]: meaning for meaning in GROUPS if meaning in found}
    found = {meaning: name for meaning, name in found.items() if meaning not in GROUPS}
    unused = tuple(name for name in names if name and name not in (*found.values(), *groups, *one_hot))
    if not group:
        _refuse_lookalikes(table, unused)
    return Columns(found, groups, unused, one_hot)


def marked(row: official.Row, one_hot: Sequence[str]) -> str:
    """Returns the name of the column that is 1 in a one-hot row.

    Raises:
      ValueError: it is not one 1 and else 0.
    """
    values = [{"0": 0.0, "0.0": 0.0, "1": 1.0, "1.0": 1.0}.get(row[name]) for name in one_hot]
    if None in values or sum(filter(None, values)) != 1:
        told = ", ".join(f"{name} = {row[name]!r}" for name in one_hot if row[name] not in ("0", "0.0"))
        raise ValueError(f"columns of classes have {told or 'no 1'}: must be one 1 and else 0 ({', '.join(one_hot)})")
    return one_hot[values.index(1.0)]


def _classes(names: Sequence[str], label_map: LabelMap, own: Sequence[str]) -> tuple[str, ...]:
    """Returns the columns that are called like classes, or like what is none of them; () where fewer than two are."""
    classes = [name for name in names if labels.names_diagnosis(label_map.meant("label", name), own)]
    return tuple(name for name in names if name in classes or key(name) in _NONE) if len(classes) > 1 else ()


def looks_like_a_group(name: str) -> bool:
    """Returns whether a column or folder of this name seems to tell patients, lesions, cases, visits or subjects apart.

    >>> [looks_like_a_group(name) for name in ("Case No.", "PatientID", "patient_age", "label")]
    [True, True, False, False]
    """
    words = [word.lower() for word in re.findall(r"[^\W\d_]+", re.sub(r"(?<=[a-zäöü])(?=[A-ZÄÖÜ])", " ", name))]
    told = any(word.startswith(_GROUP_WORDS) or word in _GROUP_NAMES for word in words)
    return told and not any(word.endswith(_ATTRIBUTES) for word in words)


def ids(rows: Sequence[official.Row], columns: Columns) -> list[tuple[str, str]]:
    """Returns patient and lesion of each row, "" where unknown.

    Columns that mean neither stand in for what is missing. More of them than that are joined: values that a row has
    together are one.
    """
    own = {meaning: name for name, meaning in columns.groups.items() if meaning != "group"}
    others = [name for name, meaning in columns.groups.items() if meaning == "group"]
    free = [meaning for meaning in GROUPS[:2] if meaning not in own]
    if others and not free:  # the lesion joins them
        others, free = [own.pop("lesion_id"), *others], ["lesion_id"]
    joined = _joined([[row[name] for name in others] for row in rows])
    result = []
    for row, together in zip(rows, joined, strict=True):
        known = {meaning: official.known(row[name]) for meaning, name in own.items()}
        if others and together:
            known[free[0]] = _SUFFIX + together
        result.append((known.get("patient_id", ""), known.get("lesion_id", "")))
    return result


def _joined(rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns one name for each row, equal for rows that a chain of equal values in the same place joins; "" = none."""
    parent: dict[tuple[int, str], tuple[int, str]] = {}

    def root(node: tuple[int, str]) -> tuple[int, str]:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = node = parent[parent[node]]
        return node

    nodes = [[(place, text) for place, text in enumerate(row) if official.known(text)] for row in rows]
    for known in nodes:
        for node in known:
            first, second = sorted((root(known[0]), root(node)))
            parent[second] = first
    roots = [root(known[0]) if known else None for known in nodes]
    return ["" if one is None else one[1] if one[0] == 0 else f"{one[0]}:{one[1]}" for one in roots]


def _refuse_doubles(table: File, names: Sequence[str], chosen: set[str]) -> None:
    alike = collections.defaultdict(list)
    for name in filter(None, names):
        alike[key(name)].append(name)
    for same in alike.values():
        if len(same) > 1 and (len(set(same)) < len(same) or not chosen & set(same)):
            raise ValueError(
                f"{table}: columns {', '.join(map(repr, same))}, which differ by case or spelling only: keep one, or "
                "name the one that counts in [columns] of a labels.toml"
            )


def _refuse_lookalikes(table: File, unused: Sequence[str]) -> None:
    found = [name for name in unused if looks_like_a_group(name)]
    if found:
        listed = ", ".join(map(repr, found))
        raise ValueError(
            f"{table}: {listed} look as if images of one patient or lesion could be told by them, and group nothing. "
            f"Images of one patient would train and test. Say --set data.group={found[0]!r} if images of equal value "
            "belong together, or --set data.group=none if no column groups (segfusion evaluate: --group)"
        )
