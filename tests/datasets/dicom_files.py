"""DICOM files as cameras and archives write them, made with pydicom."""

import io

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

PHOTOGRAPH = "1.2.840.10008.5.1.4.1.1.77.1.4"
NEEDED = dict.fromkeys(
    (
        "PatientName",
        "PatientBirthDate",
        "StudyDate",
        "StudyTime",
        "StudyID",
        "AccessionNumber",
        "ReferringPhysicianName",
    ),
    "",
)


def made(values: np.ndarray, interpretation: str = "RGB", **fields) -> Dataset:
    """A VL Photographic Image of [height, width(, 3)] values; fields replace or add what it says."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    uid = generate_uid(entropy_srcs=[values.tobytes().hex()[:64], repr(fields)])
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = PHOTOGRAPH
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"{uid[:-2]}1", f"{uid[:-2]}2"
    dataset.Modality, dataset.PatientID, dataset.PatientSex = "XC", "p1", "F"
    dataset.Rows, dataset.Columns = values.shape[:2]
    dataset.SamplesPerPixel = 3 if values.ndim == 3 else 1
    if values.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = interpretation
    bits = 8 * values.itemsize
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(values.dtype.kind == "i")
    dataset.PixelData = values.tobytes()
    for name, value in (NEEDED | fields).items():
        setattr(dataset, name, value)
    return dataset


def saved(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def photograph(height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    small = np.random.default_rng(seed).integers(30, 220, (height // 8, width // 8, 3))
    return np.kron(small, np.ones((8, 8, 1))).astype(np.uint8)
