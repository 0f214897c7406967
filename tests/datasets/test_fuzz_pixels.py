"""Damaged pictures with colour profiles, of 16 bits, in DICOM and HEIC: each is stored, or ends as a listed problem.

A few of each kind in the suite; `pytest -n 0 -m fuzz tests/datasets/test_fuzz_pixels.py` damages 4,000.
"""

import io
import warnings

import numpy as np
import pytest
from PIL import Image

from segfusion_jax import config
from segfusion_jax.datasets import dicom, images
from segfusion_jax.datasets.files import MemoryFile
from segfusion_jax.datasets.images import Stored
from segfusion_jax.datasets.record import Problem, Record
from tests.datasets.test_colours import in_wide_space, profile, skin
from tests.datasets.test_fuzz import damaged
from tests.datasets.test_fuzz import ended_when_hanging as ended_when_hanging
from tests.datasets.test_images import encoded


def a_dicom(syntax: str = "") -> bytes:
    pytest.importorskip("pydicom")
    from tests.datasets import dicom_files

    dataset = dicom_files.made(np.asarray(in_wide_space(skin())), ICCProfile=profile() + b"\0", PatientAge="055Y")
    if syntax:
        dataset.compress(syntax)
    return dicom_files.saved(dataset)


def grey_dicom() -> bytes:
    pytest.importorskip("pydicom")
    from tests.datasets import dicom_files

    window = dict(WindowCenter=30000, WindowWidth=20000, RescaleSlope=2, RescaleIntercept=-5)
    values = np.arange(60 * 80, dtype=np.uint16).reshape(60, 80) * 13
    return dicom_files.saved(dicom_files.made(values, "MONOCHROME1", **window))


def a_heic() -> bytes:
    pytest.importorskip("pillow_heif").register_heif_opener()
    return encoded(skin(), "HEIF", icc_profile=profile())


KINDS = {
    "JPEG with a profile": lambda: encoded(in_wide_space(skin()), "JPEG", icc_profile=profile()),
    "PNG with a profile": lambda: encoded(in_wide_space(skin()), icc_profile=profile()),
    "CMYK": lambda: encoded(skin().convert("CMYK"), "JPEG", icc_profile=profile()),
    "PNG of 16 bits": lambda: encoded(np.arange(60 * 80, dtype=np.uint16).reshape(60, 80) * 13),
    "TIFF of 16 bits": lambda: encoded(np.arange(60 * 80, dtype=np.uint16).reshape(60, 80) * 13, "TIFF"),
    "DICOM": a_dicom,
    "DICOM of runs": lambda: a_dicom("1.2.840.10008.1.2.5"),
    "grey DICOM": grey_dicom,
    "HEIC": a_heic,
}


def end_well(whole: bytes, seeds: range) -> int:
    """Returns how many damaged files were stored all the same."""
    stored = 0
    for seed in seeds:
        rng = np.random.default_rng(seed)
        content = damaged(damaged(whole, rng) or whole, rng) if seed % 2 else damaged(whole, rng)
        if seed % 3 == 0 and len(whole) > 1000:  # what stands before the pixels is the smaller part
            content = (damaged(whole[:900], rng) + whole[900:])[: len(whole)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's, of values that are none
            result = images.store(Record(image_id="a", image=MemoryFile("a", content), source="x"), config.Data())
            if dicom.is_dicom(content):
                try:
                    assert isinstance(dicom.describe(content), dicom.Facts)
                except ValueError as error:
                    assert str(error)
        assert isinstance(result, Stored | Problem)
        if isinstance(result, Stored):
            stored += 1
            assert Image.open(io.BytesIO(result.image)).mode == "RGB"
        else:
            assert result.kind.startswith(("unreadable", "empty", "oversized", "image of more than", "DICOM", "HEIC"))
    return stored


@pytest.mark.parametrize("kind", KINDS)
def test_some_damaged_files(kind):
    assert end_well(KINDS[kind](), range(20)) < 20


@pytest.mark.fuzz
@pytest.mark.parametrize("kind", KINDS)
def test_many_damaged_files(kind):
    assert 0 < end_well(KINDS[kind](), range(20, 470)) < 450
