"""What every collection yields about an image before it is decoded."""

import dataclasses
from collections.abc import Mapping, Sequence

from segfusion_jax.datasets.files import File


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """One image and what is known about it.

    Attributes:
      image_id: unique in its collection. ISIC's ids are unique over its collections.
      image: the encoded image.
      mask: the encoded annotation of the lesion; None = not annotated.
      lesion_id: id of the lesion shown; "" = unknown.
      patient_id: id of the patient; "" = unknown.
      diagnosis: a name of `taxonomy.DIAGNOSES` or `taxonomy.RESTS`, or one of `Data.own_classes`; "" = unknown.
      malignant: 1, 0, or -1 = unknown.
      age: years; NaN = unknown.
      sex: "female", "male", or "" = unknown.
      site: place on the body, in the collection's words; "" = unknown.
      skin_tone: tone of the patient's skin, in the collection's words; "" = unknown.
      confirmation: how the diagnosis was made, in the collection's words; "" = unknown.
      origin: clinic or device within the collection; "" = unknown.
      partition: "train", "validation" or "test", as the publisher divides the collection, or of one's own images what
        `own_split.named` returns; "" = undivided.
      source: name of the collection.
    """

    image_id: str
    image: File
    source: str
    mask: File | None = None
    lesion_id: str = ""
    patient_id: str = ""
    diagnosis: str = ""
    malignant: int = -1
    age: float = float("nan")
    sex: str = ""
    site: str = ""
    skin_tone: str = ""
    confirmation: str = ""
    origin: str = ""
    partition: str = ""


@dataclasses.dataclass(frozen=True)
class Problem:
    """Why an image cannot be used: `what` is "kind" or "kind: details"."""

    image_id: str
    what: str

    @property
    def kind(self) -> str:
        """The part of `what` that problems of one sort share."""
        return self.what.partition(":")[0]


@dataclasses.dataclass(frozen=True)
class Contents:
    """What lies in somebody's folder.

    Attributes:
      records: images that can be read.
      problems: images that cannot, as far as names and tables tell.
      read_as: how tables, columns and groups were understood, in sentences.
      passed_over: what was read by nobody: names, by what they are.
      columns: name of the column of a table by meaning.
      labels: how often each label was read, by what is written and what a label map makes of it.
    """

    records: Sequence[Record]
    problems: Sequence[Problem]
    read_as: Sequence[str] = ()
    passed_over: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    labels: Mapping[tuple[str, str], int] = dataclasses.field(default_factory=dict)
