"""The published tables and the page about them, written: the same bytes for the same images."""

import collections
import pathlib
from collections.abc import Iterable, Mapping, Sequence

from segfusion_jax.datasets import audit, taxonomy
from segfusion_jax.datasets.published_splits import content, making, tables
from segfusion_jax.datasets.published_splits.content import Content
from segfusion_jax.datasets.table import Row
from segfusion_jax.runtime.atomic import write_bytes, write_text

COLUMNS = ("image_id", "group", "split", "fold", "compared", "licence", "source")
_SPLITS = ("train", "validation", "test", "unused")
_RULES = {
    "same picture": "published duplicates, or equal files",
    "near duplicate": "near duplicates by content",
    "cut of the other": "cuts by content",
    "same lesion": "lesion id",
    "same patient": "patient id",
    "any of these": "any of these, and chains of them",
}


def write(folder: pathlib.Path, told: making.Official, compared: Mapping[str, Content], rows: Sequence[Row]) -> None:
    """Writes a table a collection, what is known by content, and `README.md`.

    Args:
      folder: made where it is missing.
      told: the official tables.
      compared: what is known by content, of the images that were at hand.
      rows: as `making.make` returns them.
    """
    found = {row.image_id: row for row in rows}
    parts = {name: [found[one] for one in ids] for name, ids in told.members.items()}
    for name, part in parts.items():
        module = making.COLLECTIONS[name]
        whose = module.LICENCE, module.ADDRESS
        lines = [(row.image_id, row.group, row.split, row.fold, int(row.image_id in compared), *whose) for row in part]
        write_bytes(folder / f"{name}-{tables.VERSION}.csv.gz", content.packed([COLUMNS, *lines]))
    write_bytes(folder / content.FILE.name, content.written(compared))
    write_text(folder / "README.md", _page(parts, compared))


def _page(parts: Mapping[str, Sequence[Row]], compared: Mapping[str, Content]) -> str:
    names = [making.COLLECTIONS[name].TITLE for name in parts]
    licences = [
        f"| `{name}-{tables.VERSION}.csv.gz` | {module.TITLE} | {module.LICENCE} | {module.ADDRESS} |"
        for name, module in making.COLLECTIONS.items()
    ]
    return "\n".join(
        [
            _INTRODUCTION,
            *_table(("table", "of", "licence of the ids", "source"), ()),
            *licences,
            "",
            _COLUMNS_TOLD,
            "",
            "## How many",
            "",
            *_table(("", *names), _counts(parts, compared)),
            "",
            "## What joins images",
            "",
            "Images that have a relative in the same table by a rule; and the share of test images that would have one "
            "in training or validation had 15 % been drawn one by one. In these tables it is none.",
            "",
            *_table(("", *names), _joined(parts)),
            "",
            "## Diagnoses",
            "",
            "Images, and their share of the split, as the official tables label them (ISIC 2020's 'no melanoma' is its "
            "'benign' without a diagnosis).",
            *(line for name, part in parts.items() for line in _diagnoses(making.COLLECTIONS[name].TITLE, part)),
            "",
        ]
    )


_INTRODUCTION = f"""# Splits for everyone, {tables.VERSION}

Splits of three collections in which no lesion, patient or picture is parted, for any framework. All three are one deal:
HAM10000's images stand in ISIC 2019's table in the same place, and no image of one table's test has a relative in
another's training. A table never changes; a better one gets another version.
"""

_COLUMNS_TOLD = f"""The labels are in the official tables, which bring their own licences; here are ids, and where they
belong.

| column | |
|---|---|
| `image_id` | as in the official table, with `_downsampled` where that has it |
| `group` | images of one group belong together: the smallest image id of them, also among the other tables' |
| `split` | `train`, `validation`, `test`; `unused` are pictures of which another stands for all |
| `fold` | 0 to 4: five folds of train and validation together, of whole groups, for cross-validation; -1 outside |
| `compared` | 1: the image was at hand and compared with all others at hand; 0: joined by tables and lists alone |
| `licence`, `source` | of the collection |

    import pandas as pd
    table = pd.read_csv("isic2019-{tables.VERSION}.csv.gz")
    train = table[table.split == "train"].image_id

`segfusion train --config isic2019 --set splits.table=published:isic2019-{tables.VERSION}` follows a table (several are
joined by +). Where the files show relatives that a table parts, which only happens to images that were not compared or
are sharper than those that were, those of the stricter split stay, and the others take no part.

Joined are images of one lesion or patient id, ISIC 2020's published duplicates (425 pairs), 18 pairs of HAM10000 that
are one lesion under two ids (`{making.SAME_LESION}`, from K. Abhishek, A. Jain and G. Hamarneh, Investigating the
Quality of DermaMNIST and Fitzpatrick17k Dermatological Image Datasets, 2025; Copyright (c) 2024 Kumar Abhishek, MIT
licence), and, of images that were at hand, equal files, near duplicates and cuts (`{content.FILE.name}`: for each such
image the smallest id of its set, empty where it is alone). They were mostly of 180 to 384 pixels. Of 2,084 images of
ISIC 2019 no lesion is known, of none a patient. Not joined: Cassidy et al.'s lists, which are published without a
licence. The tables do not keep apart from the official test sets of ISIC 2016 to 2018.

Made by `SEGFUSION_DATA=FOLDER segfusion splits --output FOLDER` from the official tables: 15 % test, 15 % validation,
by hashes, evenly by origin, diagnosis and malignancy (`segfusion_jax/datasets/splits.py`)."""


def _counts(parts: Mapping[str, Sequence[Row]], compared: Mapping[str, Content]) -> Iterable[Sequence[object]]:
    yield "images", *(len(part) for part in parts.values())
    yield "groups", *(len({row.group for row in part}) for part in parts.values())
    yield "compared by content", *(sum(row.image_id in compared for row in part) for part in parts.values())
    alone = (sum(row.image_id not in compared for row in part) for part in parts.values())
    yield "joined by tables and lists alone", *alone
    for split in _SPLITS:
        yield f"`{split}`", *(sum(row.split == split for row in part) for part in parts.values())
    for fold in range(making.SPLITS.num_folds):
        yield f"fold {fold}", *(sum(row.fold == fold for row in part) for part in parts.values())


def _joined(parts: Mapping[str, Sequence[Row]]) -> Iterable[Sequence[object]]:
    for rule, told in _RULES.items():
        cells = []
        for part in parts.values():
            names = [audit.RELATIONS[rule](row) for row in part]
            sizes = collections.Counter(names)
            share = audit.expected_relative_share(names, round(making.SPLITS.test_fraction * len(part)))
            cells.append(f"{sum(sizes[name] > 1 for name in names)}; {100 * share:.1f} %")
        yield told, *cells


def _diagnoses(title: str, part: Sequence[Row]) -> Iterable[str]:
    used = [split for split in _SPLITS if any(row.split == split for row in part)]
    count: dict[str, collections.Counter[str]] = {split: collections.Counter() for split in used}
    for row in part:
        count[row.split][row.diagnosis or "other"] += 1
    order = [name for name in (*taxonomy.ALL, "other") if any(count[split][name] for split in used)]
    lines = [
        (name, *(f"{count[split][name]} ({100 * count[split][name] / count[split].total():.1f} %)" for split in used))
        for name in order
    ]
    return ["", *_table((title, *used), lines)]


def _table(headings: Sequence[str], lines: Iterable[Sequence[object]]) -> list[str]:
    return [
        "| " + " | ".join(map(str, line)) + " |" if line else "|" + "---|" * len(headings)
        for line in (headings, (), *lines)
    ]
