"""Records of several collections as one list: an image that stands in several of them is taken once.

Ids of the ISIC archive are common to all collections, with and without `_downsampled`. Other ids, such as file names,
mean something within a collection only.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from segfusion_jax.config import Source
from segfusion_jax.datasets import images, taxonomy
from segfusion_jax.datasets.record import Record

_ISIC = re.compile(r"ISIC_\d+")
_WHOSE = re.compile(r"(?:group:)?(?:patient:|lesion:)?((?:IP|IL|HAM|BCN|MSK\d*)_\d{7})")
_STRICTNESS = {"test": 2, "train": 1, "all": 0}


class Exact(NamedTuple):
    """What the table of one collection says of the images of others, whether or not it has them itself.

    Attributes:
      diagnosis: as in `Record`.
      malignant: as in `Record`.
      lesion_id: as in `Record`.
    """

    diagnosis: str
    malignant: int
    lesion_id: str


@dataclasses.dataclass
class Merged:
    """Records, and what merging them did.

    Attributes:
      records: one an image.
      same_id: number of images that stood in several collections.
      exact: number of images that another collection gave a finer label.
      contradictions: image id, and which labels of it contradict each other: it is without a label.
    """

    records: list[Record]
    same_id: int = 0
    exact: int = 0
    contradictions: list[tuple[str, str]] = dataclasses.field(default_factory=list)


def merged(
    records: Mapping[str, Sequence[Record]], sources: Mapping[str, Source], exact: Mapping[str, Exact]
) -> Merged:
    """Returns the records of several collections as one list.

    An image of several takes the file with more pixels, the finest label, the mask of its file or, if that has none,
    another of its frame, and what else is known; it is of the collection whose use is the strictest: "test" before
    "train" before "all". Ids that are no ISIC's and stand in several collections get the collection's name before them.

    Args:
      records: those of each collection that brings images, by its name.
      sources: the collections by name.
      exact: labels by ISIC id, without `_downsampled`.
    """
    found = Merged([])
    by_id: dict[str, list[Record]] = collections.defaultdict(list)
    for record in _told_apart(records):
        by_id[plain_id(record.image_id)].append(record)
    for image_id, members in by_id.items():
        if len({record.source for record in members}) > 1:
            found.same_id += 1
            members = [_united(members, sources)]
        labels = [*_labels(by_id[image_id]), *([exact[image_id][:2]] if image_id in exact else [])]
        label = taxonomy.finest(labels)
        for record in members:
            if label is None:
                told = " / ".join(sorted({taxonomy.label(*one) for one in labels}))
                found.contradictions.append((record.image_id, f"contradicting labels: {told}"))
            elif (record.diagnosis, record.malignant) != label:
                found.exact += 1
            lesion = record.lesion_id or (exact[image_id].lesion_id if image_id in exact else "")
            diagnosis, malignant = label or ("", -1)
            found.records.append(
                dataclasses.replace(record, diagnosis=diagnosis, malignant=malignant, lesion_id=lesion)
            )
    return found


def with_masks(records: Sequence[Record], annotated: Sequence[Record]) -> list[Record]:
    """Returns the records with the masks of a collection that is for masks only, and its further images, unlabelled."""
    others = {record.image_id: record for record in annotated if record.mask is not None}
    masked = []
    for record in records:
        other = others.pop(record.image_id, record)
        ids = {"lesion_id": record.lesion_id or other.lesion_id, "patient_id": record.patient_id or other.patient_id}
        masked.append(dataclasses.replace(record, mask=other.mask, **ids))
    return masked + [dataclasses.replace(other, malignant=-1, diagnosis="") for other in others.values()]


def plain_id(image_id: str) -> str:
    """Returns the ISIC archive's own id, such as ISIC_0024306, without `_downsampled`; else the id itself."""
    name = image_id.removesuffix("_downsampled")
    return name if _ISIC.fullmatch(name) else image_id


def _labels(records: Iterable[Record]) -> list[tuple[str, int]]:
    return [(record.diagnosis, record.malignant) for record in records]


def _told_apart(records: Mapping[str, Sequence[Record]]) -> list[Record]:
    """Returns all records, with ids that are not the ISIC archive's told apart: of lesions, patients, and images that
    stand in several collections.
    """
    count = collections.Counter(record.image_id for members in records.values() for record in members)
    apart = []
    for name, members in records.items():
        for record in members:
            alone = count[record.image_id] == 1 or _ISIC.fullmatch(plain_id(record.image_id))
            image_id = record.image_id if alone else f"{name}/{record.image_id}"
            apart.append(dataclasses.replace(record, image_id=image_id, **_whose(record, name)))
    return apart


def _whose(record: Record, name: str) -> dict[str, str]:
    """Returns lesion and patient of a record: the archive's own ids, whatever column had them, others with `name`."""
    ids = {"lesion_id": "", "patient_id": ""}
    for field in ids:
        known = getattr(record, field)
        archive = _WHOSE.fullmatch(known)
        if archive:
            ids["patient_id" if archive[1].startswith("IP") else "lesion_id"] = archive[1]
        elif known:
            ids[field] = f"{name}: {known}"
    return ids


def _united(members: Sequence[Record], sources: Mapping[str, Source]) -> Record:
    """Returns one record of one image that several collections have."""
    sizes = {record: images.size(record.image) for record in members}
    order = sorted(members, key=lambda record: (-math.prod(sizes[record]), -record.image.size, record.source))
    strictest = max(order, key=lambda record: _STRICTNESS[sources[record.source].use])
    best, known = order[0], {}
    for name in ("lesion_id", "patient_id", "sex", "site", "skin_tone", "confirmation", "origin"):
        known[name] = next((value for record in order if (value := getattr(record, name))), "")
    known["age"] = next((record.age for record in order if not math.isnan(record.age)), math.nan)
    partitions = {record.partition for record in members}
    known["partition"] = "test" if "test" in partitions else best.partition

    def fits(record: Record) -> bool:
        return min(*sizes[record], *sizes[best]) > 0 and images.same_frame(sizes[record], sizes[best])

    frames = [record for record in order if record.mask and (record is best or fits(record))]
    mask = frames[0].mask if frames else None
    return dataclasses.replace(best, source=strictest.source, mask=mask, **known)
