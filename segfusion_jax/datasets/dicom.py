"""DICOM files of photographs: VL Photographic, Dermoscopic and Secondary Capture images, with the extra [dicom].

What a viewer would show is what is read: photometric interpretation, palette, rescaling and window are applied, and the
colour profile is handed on.
"""

import contextlib
import io
import math
from typing import IO, Any, NamedTuple

import numpy as np
from PIL import Image

from segfusion_jax.datasets import limits

_DEFLATED = b"1.2.840.10008.1.2.1.99"  # unpacks to any size before its first field can be read
_UNKNOWN_AGE = float("nan")
_YEARS = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}


class Facts(NamedTuple):
    """What a file says of patient and lesion; "" and NaN = nothing.

    Attributes:
      patient_id: Patient ID; where that is empty, the study's UID, since a study is of one patient.
      lesion_id: Tracking UID, or ID, of the lesion shown.
      age: years.
      sex: "female", "male".
      site: part of the body, in the file's words.
    """

    patient_id: str = ""
    lesion_id: str = ""
    age: float = _UNKNOWN_AGE
    sex: str = ""
    site: str = ""


def is_dicom(content: bytes) -> bool:
    """Returns whether it is a DICOM file (PS3.10)."""
    return content[128:132] == b"DICM"


def decode(content: bytes) -> Image.Image:
    """Decodes the one picture of a file: mode RGB or L, 8 bits, with the colour profile in `info`.

    Raises:
      ValueError: it cannot be used; says why.
    """
    dataset = read(content)
    with _told():
        _refuse(dataset)
        image = Image.fromarray(_pixels(dataset))
        profile = _anywhere(dataset, "ICCProfile")
    image.format = "DICOM"
    if profile:
        image.info["icc_profile"] = bytes(profile)
    return image


def pixels(file: IO[bytes]) -> int:
    """Returns how many pixels the header of a file declares.

    Raises:
      ValueError: it cannot be read, or pydicom is not installed.
    """
    dataset = _parsed(file, stop_before_pixels=True, specific_tags=["Rows", "Columns", "NumberOfFrames"])
    rows, columns, frames = (int(dataset.get(name) or 0) for name in ("Rows", "Columns", "NumberOfFrames"))
    return rows * columns * max(frames, 1)


def describe(content: bytes) -> Facts:
    """Returns what a file says of patient and lesion.

    Raises:
      ValueError: it cannot be read.
    """
    dataset = read(content, stop_before_pixels=True)
    with _told():
        study = str(dataset.get("StudyInstanceUID") or "")
        return Facts(
            patient_id=_text(dataset, "PatientID") or (f"study {study}" if study else ""),
            lesion_id=str(_anywhere(dataset, "TrackingUID") or _anywhere(dataset, "TrackingID") or "").strip(),
            age=_age(_text(dataset, "PatientAge")),
            sex={"F": "female", "M": "male"}.get(_text(dataset, "PatientSex"), ""),
            site=_text(dataset, "BodyPartExamined").lower(),
        )


def read(content: bytes, *, stop_before_pixels: bool = False) -> Any:
    """Returns the pydicom.Dataset of a file.

    Raises:
      ValueError: it cannot be read, or pydicom is not installed.
    """
    return _parsed(io.BytesIO(content), stop_before_pixels=stop_before_pixels)


def _parsed(file: IO[bytes], **options: Any) -> Any:
    try:
        import pydicom
    except ModuleNotFoundError:
        raise ValueError(
            "DICOM file: reading it needs pydicom, of the extra [dicom]: pip install 'segfusion_jax[dicom]'"
        ) from None
    deflated = _DEFLATED in file.read(1 << 16)
    file.seek(0)
    if deflated:
        raise ValueError("DICOM file that is deflated as a whole: save it with another transfer syntax")
    with _told():
        return pydicom.dcmread(file, **options)


@contextlib.contextmanager
def _told():
    """Raises ValueError for whatever damage leads pydicom and its decoders to."""
    try:
        yield
    except Exception as error:
        reason = str(error).replace("\n", " ") or type(error).__name__
        if isinstance(error, ValueError) and reason.startswith(("DICOM", "oversized")):  # one of ours
            raise
        raise ValueError(f"unreadable image: DICOM file: {reason}") from error


def _refuse(dataset: Any) -> None:
    """Refuses what is no picture, or more than one, before it is decoded."""
    rows, columns, frames = (int(dataset.get(name) or 0) for name in ("Rows", "Columns", "NumberOfFrames"))
    limit = Image.MAX_IMAGE_PIXELS
    if limit and rows * columns * max(frames, 1) > limit:
        raise ValueError(f"oversized image: {columns}x{rows}, {max(frames, 1)} times, is over {limit} pixels")
    if dataset.get("Modality") == "SEG":
        raise ValueError("DICOM segmentation: no picture")
    if frames > 1:
        raise ValueError(f"DICOM file of {frames} pictures: save each as a file of its own")
    if "PixelData" not in dataset:
        raise ValueError("DICOM file without a picture: it has no pixel data")


def _pixels(dataset: Any) -> np.ndarray:
    """Returns [height, width] or [height, width, 3] uint8, as a viewer shows it."""
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import pixel_array

    limits.check_frame(dataset)
    values = pixel_array(dataset)  # YBR becomes RGB
    interpretation = str(dataset.PhotometricInterpretation)
    if interpretation.startswith("MONOCHROME"):
        shown = _windowed(dataset, values)
        return 255 - shown if interpretation == "MONOCHROME1" else shown
    bits = int(dataset.BitsStored)
    if interpretation == "PALETTE COLOR":
        values = apply_color_lut(values, dataset)[..., :3]
        bits = 8 * values.dtype.itemsize
    if values.ndim != 3 or values.shape[2] != 3:
        raise ValueError(f"DICOM file of {interpretation} with values of shape {values.shape}: no picture in colour")
    return values.astype(np.uint8) if bits == 8 else _scaled(values, 0, 2**bits - 1)


def _windowed(dataset: Any, values: np.ndarray) -> np.ndarray:
    """Applies rescaling, then the first window or table of values of interest, or else takes all that can be stored."""
    from pydicom.pixels.processing import apply_modality_lut, apply_voi

    bits, signed = int(dataset.BitsStored), int(dataset.PixelRepresentation)
    rescaled = apply_modality_lut(values, dataset)
    if "VOILUTSequence" in dataset:
        return _scaled(apply_voi(rescaled, dataset), 0, 2 ** int(dataset.VOILUTSequence[0].LUTDescriptor[2]) - 1)
    if "WindowCenter" in dataset and "WindowWidth" in dataset:
        return _window(rescaled.astype(np.float64), dataset)
    ends = np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if signed else [0, 2**bits - 1])
    if "ModalityLUTSequence" in dataset:
        return _scaled(rescaled, 0, 2 ** int(dataset.ModalityLUTSequence[0].LUTDescriptor[2]) - 1)
    slope, intercept = float(dataset.get("RescaleSlope") or 1), float(dataset.get("RescaleIntercept") or 0)
    low, high = sorted((ends * slope + intercept).tolist())
    return _scaled(rescaled, low, high)


def _window(values: np.ndarray, dataset: Any) -> np.ndarray:
    """Maps a window to 0 to 255, by PS3.3 C.11.2.1.2 and C.11.2.1.3."""
    centre, width = (_first(dataset[name].value) for name in ("WindowCenter", "WindowWidth"))
    function = str(dataset.get("VOILUTFunction") or "LINEAR")
    if not (math.isfinite(centre) and math.isfinite(width) and width >= 1):
        raise ValueError(f"DICOM window of centre {centre} and width {width}: the width must be at least 1")
    match function:
        case "LINEAR":
            share = (values - (centre - 0.5)) / max(width - 1, 1e-9) + 0.5
        case "LINEAR_EXACT":
            share = (values - centre) / width + 0.5
        case "SIGMOID":
            share = 1 / (1 + np.exp(-4 * (values - centre) / width))
        case _:
            raise ValueError(f"DICOM window of the function {function!r}: must be LINEAR, LINEAR_EXACT or SIGMOID")
    return np.round(255 * np.clip(share, 0, 1)).astype(np.uint8)


def _scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    share = (values.astype(np.float64) - low) / max(high - low, 1)
    return np.round(255 * np.clip(share, 0, 1)).astype(np.uint8)


def _first(value: Any) -> float:
    return float(value[0] if hasattr(value, "__len__") and not isinstance(value, str) else value)


def _text(dataset: Any, name: str) -> str:
    return str(dataset.get(name) or "").strip()


def _anywhere(dataset: Any, name: str) -> Any:
    """Returns a field of the file or of an item of one of its sequences; None without it."""
    if value := dataset.get(name):
        return value
    items = (item for element in dataset if element.VR == "SQ" for item in element.value)
    return next((value for item in items if (value := item.get(name))), None)


def _age(text: str) -> float:
    if len(text) != 4 or not text[:3].isdigit() or text[3] not in _YEARS:
        return _UNKNOWN_AGE
    return int(text[:3]) * _YEARS[text[3]]
