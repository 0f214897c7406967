"""A reader of a made-up collection as `data.collections.clinic.reader`: "examples.clinic:Clinic".

Its folder has `cases.txt`, a line "patient;picture;finding" for each image, and the pictures beside it.
"""

from collections.abc import Sequence

from segfusion_jax.config import Data
from segfusion_jax.datasets.files import Folder
from segfusion_jax.datasets.record import Problem, Record

_FINDINGS = {"MM": ("melanoma", 1), "NZN": ("nevus", 0), "?": ("", -1)}


class Clinic:
    """The collection of a clinic that there is not."""

    TITLE = "Made-up clinic"
    ADDRESS = "nowhere"
    LICENCE = "that of your own images"

    @staticmethod
    def read(root: Folder, data: Data) -> tuple[Sequence[Record], Sequence[Problem]]:
        """Lists the images that cases.txt names."""
        files = {file.name: file for file in root.files()}
        records, problems = [], []
        for line in files["cases.txt"].read().decode().splitlines():
            patient, picture, finding = line.split(";")
            if picture not in files or finding not in _FINDINGS:
                problems.append(Problem(picture, f"not usable: finding {finding!r}, or no such picture"))
                continue
            diagnosis, malignant = _FINDINGS[finding]
            facts = dict(patient_id=patient, diagnosis=diagnosis, malignant=malignant, source="clinic")
            records.append(Record(image_id=picture, image=files[picture], **facts))
        return records, problems
