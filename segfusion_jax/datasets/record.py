"""What every collection yields about an image before it is encoded."""

import dataclasses
import pathlib


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """One image and what is known about it.

    Attributes:
      image_id: unique in its collection.
      image: file, or the encoded bytes themselves.
      mask: file or encoded bytes of the lesion's annotation; None = not annotated.
      lesion_id: of the lesion shown; "" = unknown.
      patient_id: of the patient; "" = unknown.
      diagnosis: a name of `taxonomy`; "" = unknown.
      malignant: 1, 0, or -1 where the image takes no part in classification.
      age: years; NaN = unknown.
      sex: "female", "male", or "" = unknown.
      site: place on the body, in the collection's words; "" = unknown.
      source: name of the collection.
    """

    image_id: str
    image: pathlib.Path | bytes
    source: str
    mask: pathlib.Path | bytes | None = None
    lesion_id: str = ""
    patient_id: str = ""
    diagnosis: str = ""
    malignant: int = -1
    age: float = float("nan")
    sex: str = ""
    site: str = ""


@dataclasses.dataclass(frozen=True)
class Problem:
    """Why an image cannot be used: `what` is "kind" or "kind: details"."""

    image_id: str
    what: str

    @property
    def kind(self) -> str:
        """The part of `what` that problems of one sort share."""
        return self.what.partition(":")[0]
