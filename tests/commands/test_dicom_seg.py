"""DICOM segmentations, written with highdicom and read back with pydicom."""

import io
import sys

import numpy as np
import pytest

from segfusion_jax.commands import dicom_seg
from segfusion_jax.datasets import images
from segfusion_jax.datasets.files import MemoryFile

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")

from tests.datasets.dicom_files import made, photograph, saved  # noqa: E402

MASK = np.zeros((48, 64), bool)
MASK[5:20, 10:41] = True
MODEL = "ab" * 32


def test_another_tool_reads_the_lesion_back_and_finds_the_image_that_it_is_of():
    source = made(photograph(), PatientID="p7")
    back = pydicom.dcmread(io.BytesIO(dicom_seg.segmentation(saved(source), MASK, MODEL)))
    assert back.SOPClassUID == pydicom.uid.SegmentationStorage and back.SegmentationType == "BINARY"
    np.testing.assert_array_equal(back.pixel_array.reshape(MASK.shape), MASK)
    assert (back.PatientID, back.StudyInstanceUID) == ("p7", source.StudyInstanceUID)
    referred = back.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]
    assert referred.ReferencedSOPInstanceUID == source.SOPInstanceUID
    segment = back.SegmentSequence[0]
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == "95324001"
    assert segment.SegmentAlgorithmType == "AUTOMATIC"


def test_uids_are_a_function_of_image_model_and_mask():
    content = saved(made(photograph()))
    cases = [(MASK, MODEL), (MASK, MODEL), (~MASK, MODEL), (MASK, "cd" * 32)]
    files = [pydicom.dcmread(io.BytesIO(dicom_seg.segmentation(content, mask, model))) for mask, model in cases]
    first, again, *others = (file.SOPInstanceUID for file in files)
    assert first == again and len({first, *others}) == 3


def test_what_cannot_be_referred_to_is_refused():
    with pytest.raises(ValueError, match=r"mask of shape \(64, 48\): must be the image's, 48x64"):
        dicom_seg.segmentation(saved(made(photograph())), MASK.T, MODEL)
    source = made(photograph())
    del source.StudyInstanceUID
    with pytest.raises(ValueError, match="lacks what a segmentation must repeat of it: .*StudyInstanceUID"):
        dicom_seg.segmentation(saved(source), MASK, MODEL)


def test_a_photograph_gets_none_and_a_segmentation_is_no_image(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    assert not dicom_seg.write(tmp_path / "a.dcm", tmp_path / "a.png", MASK, MODEL)
    assert not (tmp_path / "a.dcm").exists()
    content = dicom_seg.segmentation(saved(made(photograph())), MASK, MODEL)
    with pytest.raises(ValueError, match="DICOM segmentation: no picture"):
        images.read(MemoryFile("a.dcm", content))


def test_without_highdicom_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(ValueError, match=r"pip install 'segfusion_jax\[dicom\]'"):
        dicom_seg.check_installed()
