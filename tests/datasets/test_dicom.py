"""DICOM in: the picture is the one that a viewer shows, whatever its interpretation, window and transfer syntax."""

import io
import re
import sys

import numpy as np
import pytest
from PIL import Image

from segfusion_jax import config
from segfusion_jax.datasets import dicom, images
from segfusion_jax.datasets.collections import image_folder
from segfusion_jax.datasets.files import Folder, MemoryFile
from tests.datasets.test_colours import in_wide_space, profile, skin
from tests.datasets.test_images import encoded, pixels, refused, store

pydicom = pytest.importorskip("pydicom")

from pydicom import uid  # noqa: E402
from pydicom.encaps import encapsulate  # noqa: E402
from pydicom.pixels.processing import apply_windowing  # noqa: E402
from pydicom.sequence import Sequence  # noqa: E402

from tests.datasets.dicom_files import made, photograph, saved  # noqa: E402


def read(dataset) -> np.ndarray:
    return images.read(MemoryFile("a.dcm", saved(dataset)))


def compressed(values: np.ndarray, syntax: str):
    dataset = made(values)
    if syntax in (uid.RLELossless, uid.JPEGLSLossless):
        dataset.compress(syntax)
        return dataset
    options = {"quality": 95} if syntax == uid.JPEGBaseline8Bit else {"no_jp2": True, "mct": 0}
    kind = "JPEG" if syntax == uid.JPEGBaseline8Bit else "JPEG2000"
    dataset.PixelData = encapsulate([encoded(values, kind, **options)])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PhotometricInterpretation = "YBR_FULL_422" if kind == "JPEG" else "RGB"
    return dataset


def test_a_photograph_is_read_and_kept_as_it_is():
    values = photograph()
    np.testing.assert_array_equal(read(made(values)), values)
    planes = values.transpose(2, 0, 1).reshape(48, 64, 3)
    np.testing.assert_array_equal(read(made(planes, PlanarConfiguration=1)), values)
    kept = store(saved(made(values)))
    assert (kept.width, kept.height) == (64, 48)
    assert np.abs(pixels(kept.image).astype(int) - values).mean() < 8


@pytest.mark.parametrize("syntax", [uid.RLELossless, uid.JPEG2000Lossless, uid.JPEGLSLossless, uid.JPEGBaseline8Bit])
def test_compressed_syntaxes(syntax):
    values = photograph()
    dataset = compressed(values, syntax)
    expected = values if syntax != uid.JPEGBaseline8Bit else pixels(encoded(values, "JPEG", quality=95))
    np.testing.assert_allclose(read(dataset).astype(int), expected, atol=2)


def test_ybr_is_turned_into_rgb():
    values = photograph()
    ybr = np.asarray(Image.fromarray(values).convert("YCbCr"))
    np.testing.assert_allclose(read(made(ybr, "YBR_FULL")).astype(int), values, atol=2)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_palette_is_applied(bits):
    table = np.random.default_rng(0).integers(0, 256, (3, 256))
    numbers = np.arange(256, dtype=np.uint8).reshape(16, 16)
    fields = {}
    for colour, entries in zip(("Red", "Green", "Blue"), table, strict=True):
        fields[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
        stored = (entries * 257).astype("<u2") if bits == 16 else entries.astype(np.uint8)
        fields[f"{colour}PaletteColorLookupTableData"] = stored.tobytes()
    np.testing.assert_array_equal(read(made(numbers, "PALETTE COLOR", **fields)), table.T[numbers])


def test_grey_without_a_window_takes_the_range_that_its_bits_hold():
    values = np.array([[0, 1024, 2048, 4095]] * 4, np.uint16)
    shown = read(made(values, "MONOCHROME2", BitsStored=12, HighBit=11))
    assert shown[0, :, 0].tolist() == [0, 64, 128, 255]
    np.testing.assert_array_equal(read(made(values, "MONOCHROME1", BitsStored=12, HighBit=11)), 255 - shown)
    signed = read(made(np.array([[-100, 0, 100, 127]], np.int8), "MONOCHROME2"))
    assert signed[0, :, 0].tolist() == [28, 128, 228, 255]


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_windows_are_those_of_pydicom(function):
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    rescaled = dict(RescaleSlope=2, RescaleIntercept=-1000)
    window = dict(WindowCenter=[1500, 40], WindowWidth=[900, 400], VOILUTFunction=function)
    dataset = made(values, "MONOCHROME2", BitsStored=12, HighBit=11, **rescaled, **window)
    theirs = apply_windowing(values * 2.0 - 1000, dataset)
    expected = (
        255 * (theirs - theirs.min()) / np.ptp(theirs)
        if function != "SIGMOID"
        else 255 / (1 + np.exp(-4 * (values * 2.0 - 1000 - 1500) / 900))
    )
    np.testing.assert_allclose(read(dataset)[..., 0], expected, atol=0.51)


def test_a_table_of_values_of_interest_is_applied():
    item = pydicom.Dataset()
    item.LUTDescriptor, item.LUTData = [4, 0, 8], np.array([10, 30, 200, 250], "<u2").tobytes()
    shown = read(made(np.array([[0, 1, 2, 3]], np.uint8), "MONOCHROME2", VOILUTSequence=Sequence([item])))
    assert shown[0, :, 0].tolist() == [10, 30, 200, 250]


@pytest.mark.parametrize("place", ["file", "optical path"])
def test_the_colour_profile_is_applied(place):
    wide = np.asarray(in_wide_space(skin()))
    item = pydicom.Dataset()
    item.ICCProfile = profile() + bytes(len(profile()) % 2)
    fields = {"ICCProfile": item.ICCProfile} if place == "file" else {"OpticalPathSequence": Sequence([item])}
    assert np.abs(read(made(wide, **fields)).astype(int) - np.asarray(skin())).max() <= 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(NumberOfFrames=2), "DICOM file of 2 pictures"),
        (dict(Rows=65535, Columns=65535), "oversized image: 65535x65535"),
        (dict(Modality="SEG"), "DICOM segmentation: no picture"),
        (dict(Rows=480), "unreadable image: DICOM file: "),
    ],
)
def test_what_is_no_picture_is_refused(fields, message):
    assert re.search(message, refused(saved(made(photograph(), **fields))))


def test_a_file_that_is_deflated_as_a_whole_is_refused_before_it_is_unpacked():
    dataset = made(photograph())
    dataset.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
    assert "deflated as a whole" in refused(saved(dataset))


def test_what_a_file_says_of_patient_and_lesion():
    item = pydicom.Dataset()
    item.TrackingUID = "1.2.3"
    fields = dict(PatientAge="018M", BodyPartExamined="BACK", PrimaryAnatomicStructureSequence=Sequence([item]))
    facts = dicom.describe(saved(made(photograph(), **fields)))
    assert facts == dicom.Facts("p1", "1.2.3", 1.5, "female", "back")
    unnamed = made(photograph(), PatientID="", PatientSex="O")
    assert dicom.describe(saved(unnamed))[:2] == (f"study {unnamed.StudyInstanceUID}", "")


def test_patients_of_headers_are_groups_of_a_folder(tmp_path):
    for number, patient in enumerate(("p1", "p1", "p2")):
        path = tmp_path / ("melanoma", "nevus")[number % 2] / f"{number}.dcm"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(saved(made(photograph(seed=number), PatientID=patient, PatientAge="055Y")))
    (tmp_path / "nevus/broken.dcm").write_bytes(b"no DICOM")
    found = image_folder.understand(Folder(tmp_path), config.Data(collection="image_folder"))
    assert {r.image_id: (r.patient_id, r.diagnosis, r.age) for r in found.records if r.image_id != "broken"} == {
        "0": ("p1", "melanoma", 55.0),
        "1": ("p1", "nevus", 55.0),
        "2": ("p2", "melanoma", 55.0),
    }
    assert any("headers of 3 DICOM files" in line for line in found.read_as)
    alone = image_folder.understand(Folder(tmp_path), config.Data(collection="image_folder", group="none"))
    assert {record.patient_id for record in alone.records} == {""}


def test_without_pydicom_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert "pip install 'segfusion_jax[dicom]'" in refused(bytes(128) + b"DICM")


def test_heic_is_read_upright_and_without_the_package_the_extra_is_named(monkeypatch):
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    buffer = io.BytesIO()
    Image.fromarray(photograph()).save(buffer, "HEIF", quality=95, exif=exif.tobytes())
    shown = images.read(MemoryFile("a.heic", buffer.getvalue())).astype(int)
    assert np.abs(shown - np.rot90(photograph(), -1)).mean() < 5
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert "pip install 'segfusion_jax[heic]'" in refused(buffer.getvalue())
