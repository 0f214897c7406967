"""DICOM segmentations of DICOM images, as viewers and archives take them, with the extra [dicom]."""

import io
import pathlib

import numpy as np

from segfusion_jax import __version__
from segfusion_jax.datasets import dicom
from segfusion_jax.datasets.files import MAX_BYTES
from segfusion_jax.runtime import regular

FOLDER = "segmentations"
"""Name of their folder beside the table of an output folder."""


def check_installed() -> None:
    """Checks that segmentations can be written.

    Raises:
      ValueError: highdicom is not installed.
    """
    try:
        import highdicom  # noqa: F401
    except ModuleNotFoundError:
        raise ValueError(
            "--dicom-seg needs highdicom, of the extra [dicom]: pip install 'segfusion_jax[dicom]'"
        ) from None


def segmentation(source: bytes, mask: np.ndarray, model: str) -> bytes:
    """Returns a file of one binary segment, the lesion, that refers to the image it is of.

    The same arguments give the same UIDs, and patient and study are the image's.

    Args:
      source: the DICOM file of the image.
      mask: [height, width] bool, of the image's size.
      model: SHA-256 that tells the model.

    Raises:
      ValueError: no such file, of another size, or without fields that a segmentation needs; names them.
    """
    import highdicom
    from highdicom.sr.coding import CodedConcept
    from pydicom.uid import generate_uid

    dataset = dicom.read(source)
    if (dataset.get("Rows"), dataset.get("Columns")) != mask.shape:
        raise ValueError(
            f"mask of shape {mask.shape}: must be the image's, {dataset.get('Rows')}x{dataset.get('Columns')}"
        )
    entropy = [str(dataset.get("SOPInstanceUID")), model, np.packbits(mask).tobytes().hex()]
    abnormality = CodedConcept("49755003", "SCT", "Morphologically Abnormal Structure")
    lesion = highdicom.seg.SegmentDescription(
        segment_number=1,
        segment_label="skin lesion",
        segmented_property_category=abnormality,
        segmented_property_type=CodedConcept("95324001", "SCT", "Skin lesion"),
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name="segfusion_jax",
            version=__version__,
            family=CodedConcept("123110", "DCM", "Artificial Intelligence"),
        ),
        tracking_uid=generate_uid(entropy_srcs=[*entropy, "lesion"]),
        tracking_id="skin lesion",
    )
    try:
        made = highdicom.seg.Segmentation(
            source_images=[dataset],
            pixel_array=mask[None].astype(np.uint8),
            segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[lesion],
            series_instance_uid=generate_uid(entropy_srcs=[*entropy, "series"]),
            series_number=1,
            sop_instance_uid=generate_uid(entropy_srcs=[*entropy, "instance"]),
            instance_number=1,
            manufacturer="segfusion_jax",
            manufacturer_model_name="segfusion_jax",
            software_versions=__version__,
            device_serial_number=model[:16],
            content_label="LESION",
            content_description="Research use only: not a medical device",
        )
    except (AttributeError, KeyError) as error:  # of fields that the image lacks
        raise ValueError(f"the image lacks what a segmentation must repeat of it: {error}") from error
    buffer = io.BytesIO()
    made.save_as(buffer)
    return buffer.getvalue()


def write(path: pathlib.Path, source: pathlib.Path, mask: np.ndarray, model: str) -> bool:
    """Writes the segmentation of an image; returns False, and writes none, where that is no DICOM file.

    Raises:
      ValueError: as `segmentation`.
    """
    content = regular.read(source, MAX_BYTES)
    if not dicom.is_dicom(content):
        return False
    path.write_bytes(segmentation(content, mask, model))
    return True
