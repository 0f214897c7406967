"""The published splits from the official tables: one deal of all three collections, so that no two tables disagree."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from segfusion_jax import config
from segfusion_jax.datasets import groups, taxonomy
from segfusion_jax.datasets.collections import ham10000, isic2019, isic2020, official
from segfusion_jax.datasets.files import File, Folder
from segfusion_jax.datasets.published_splits import tables
from segfusion_jax.datasets.published_splits.content import Content, pairs
from segfusion_jax.datasets.splits import deal
from segfusion_jax.datasets.table import Row
from segfusion_jax.runtime import locations
from segfusion_jax.runtime.atomic import read_table

SPLITS = config.Splits(test_fraction=0.15, validation_fraction=0.15, num_folds=5, seed=0)
COLLECTIONS = {"ham10000": ham10000, "isic2019": isic2019, "isic2020": isic2020}
"""The modules that say what the collections are called, where they are published, and their licences."""

SAME_LESION = "ham10000-same-lesion.csv"


@dataclasses.dataclass(frozen=True)
class Case:
    """What the official tables say of an image.

    Attributes:
      diagnosis: a name of `taxonomy.ALL`, or "" where only `malignant` says something.
      malignant: 1 or 0; in ISIC 2020, whether it is a melanoma.
      lesion_id: "" = unknown.
      patient_id: "" = unknown.
      origin: what is dealt evenly beside the diagnosis: the collection and, in ISIC 2019, whose lesion ids they are.
    """

    diagnosis: str
    malignant: int
    lesion_id: str
    patient_id: str
    origin: str


@dataclasses.dataclass(frozen=True)
class Official:
    """The official tables of the three collections.

    Attributes:
      cases: by image id; HAM10000's images are among ISIC 2019's, whose exact diagnosis they take.
      members: the ids in each collection's table.
      duplicates: pairs of ids that are published as one picture.
    """

    cases: Mapping[str, Case]
    members: Mapping[str, Sequence[str]]
    duplicates: Sequence[tuple[str, str]]


def read() -> Official:
    """Reads the official tables in the folders of SEGFUSION_DATA; no image.

    Raises:
      FileNotFoundError: a collection or a table is not there; says where it is published.
      ValueError: a table is not what it should be.
    """
    roots = {name: _root(name) for name in COLLECTIONS}
    later = {"isic2019": _isic2019(roots["isic2019"]), "isic2020": _isic2020(roots["isic2020"])}
    found = {"ham10000": _ham10000(roots["ham10000"], later["isic2019"]), **later}
    cases = {one: case for part in reversed(found.values()) for one, case in part.items()}
    members = {name: sorted(part) for name, part in found.items()}
    return Official(dict(sorted(cases.items())), members, isic2020.duplicate_pairs(roots["isic2020"]))


def make(told: Official, content: Mapping[str, Content]) -> list[Row]:
    """Returns all images with group, split and fold, dealt evenly by origin, diagnosis and malignancy.

    Of what a row knows, only what the tables say is there.
    """
    rows = [_row(number, one, case) for number, (one, case) in enumerate(told.cases.items())]
    same, near, cut = (groups.places(rows, pairs(content, rule)) for rule in ("picture", "lookalike", "cut"))
    same += groups.places(rows, told.duplicates)
    return deal(groups.grouped(rows, same, near, cut, groups.places(rows, same_lesion())), SPLITS)


def same_lesion() -> list[tuple[str, str]]:
    """Returns pairs of HAM10000's images that are published as one lesion under two ids; `README.md` says where."""
    return [(row["image_id"], row["other_id"]) for row in read_table(tables.FOLDER / SAME_LESION)]


def _root(name: str) -> Folder:
    path, module = locations.find_data(name), COLLECTIONS[name]
    if path is None:
        raise official.missing(f"folder {name}", root=None, title=module.TITLE, address=module.ADDRESS, collection=name)
    return Folder(path)


def _table(root: Folder, name: str, *names: str) -> File:
    table, module = official.table(root, *names), COLLECTIONS[name]
    if table is None:
        raise official.missing(
            f"table {names[0]}", root=root, title=module.TITLE, address=module.ADDRESS, collection=name
        )
    return table


def _ham10000(root: Folder, exact: Mapping[str, Case]) -> dict[str, Case]:
    table = _table(root, "ham10000", "HAM10000_metadata.csv", "HAM10000_metadata.tab", "HAM10000_metadata")
    cases = {}
    for row in official.rows(table, ("lesion_id", "image_id", "dx")):
        one, diagnosis = row["image_id"], taxonomy.named(row["dx"], taxonomy.HAM10000, column="dx")
        label = diagnosis, taxonomy.DIAGNOSES[diagnosis]
        if one in exact:
            label = taxonomy.finest([label, (exact[one].diagnosis, exact[one].malignant)]) or label
        cases[one] = Case(*label, official.known(row["lesion_id"]), "", "ham10000")
    return cases


def _isic2019(root: Folder) -> dict[str, Case]:
    exact = isic2019.exact(root)
    table = _table(root, "isic2019", "ISIC_2019_Training_GroundTruth.csv")
    _table(root, "isic2019", "ISIC_2019_Training_Metadata.csv")
    cases = {}
    for row in official.rows(table, ("image",)):
        diagnosis, malignant, lesion = exact[row["image"].removesuffix("_downsampled")]
        cases[row["image"]] = Case(diagnosis, malignant, lesion, "", f"isic2019 {lesion.partition('_')[0]}".strip())
    return cases


def _isic2020(root: Folder) -> dict[str, Case]:
    table = _table(root, "isic2020", "ISIC_2020_Training_GroundTruth_v2.csv")
    cases = {}
    for row in official.rows(table, ("image_name", "patient_id", "lesion_id", "diagnosis", "target")):
        diagnosis = taxonomy.named(row["diagnosis"], taxonomy.ISIC2020, column="diagnosis")
        ids = official.known(row["lesion_id"]), official.known(row["patient_id"])
        cases[row["image_name"]] = Case(diagnosis, int(row["target"]), *ids, "isic2020")
    return cases


def _row(number: int, image_id: str, case: Case) -> Row:
    unknown = dict.fromkeys(("sex", "site", "skin_tone", "confirmation", "origin", "partition"), "")
    return Row(
        position=number,
        image_id=image_id,
        lesion_id=case.lesion_id,
        patient_id=case.patient_id,
        diagnosis=case.diagnosis,
        malignant=case.malignant,
        target=case.malignant,
        source=case.origin,
        age=math.nan,
        has_mask=False,
        **dict.fromkeys(("width", "height", "file_bytes"), 0),
        **dict.fromkeys(("sha256", "perceptual_hash"), ""),
        **unknown,
    )
