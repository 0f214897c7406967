"""Several collections as one list: which file, label and mask an image takes, and what is told of it."""

import io

import numpy as np
from PIL import Image

from segfusion_jax import config
from segfusion_jax.config import Data, Source
from segfusion_jax.datasets import joining, merging, prepared
from segfusion_jax.datasets.files import MemoryFile
from segfusion_jax.datasets.record import Record
from tests.datasets import official

AKIEC = "actinic keratosis or intraepithelial carcinoma"
SOURCES = {"a": Source(), "b": Source(), "tests": Source(use="test"), "trains": Source(use="train")}


def picture(width: int, height: int) -> MemoryFile:
    buffer = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), 99, np.uint8)).save(buffer, "PNG")
    return MemoryFile(f"{width}x{height}.png", buffer.getvalue())


def record(source: str, image_id: str = "ISIC_0000001", size=(40, 30), **facts) -> Record:
    return Record(image_id=image_id, image=picture(*size), source=source, **facts)


def merged(*records: Record, exact=None) -> merging.Merged:
    by_source = {name: [one for one in records if one.source == name] for name in SOURCES}
    return merging.merged(by_source, SOURCES, exact or {})


def test_an_image_of_two_collections_takes_the_sharper_file_and_the_finer_label():
    coarse = record("a", size=(80, 60), malignant=0, age=40.0, lesion_id="L1", origin="clinic")
    fine = record("b", diagnosis="nevus", malignant=0, age=50.0, sex="female", patient_id="P1")
    for order in ((coarse, fine), (fine, coarse)):
        found = merged(*order)
        (one,) = found.records
        assert (one.image, one.source, one.origin) == (coarse.image, "a", "clinic")
        assert (one.diagnosis, one.malignant, one.age, one.sex) == ("nevus", 0, 40.0, "female")
        assert (one.lesion_id, one.patient_id) == ("a: L1", "b: P1")
        assert (found.same_id, found.contradictions) == (1, [])


def test_a_downsampled_copy_is_the_same_image_in_another_collection_only():
    copy = "ISIC_0000001_downsampled"
    (one,) = merged(record("a"), record("b", copy, size=(20, 15))).records
    assert one.image_id == "ISIC_0000001"
    assert {one.image_id for one in merged(record("a"), record("a", copy)).records} == {"ISIC_0000001", copy}


def test_a_mask_is_taken_of_the_same_frame_only():
    mask = MemoryFile("mask.png", b"x")
    sharp, other_frame = record("a", size=(80, 60)), record("b", size=(30, 30), mask=mask)
    assert merged(sharp, other_frame).records[0].mask is None
    assert merged(sharp, record("b", size=(40, 30), mask=mask)).records[0].mask == mask


def test_an_image_is_of_the_strictest_use():
    for sources, kept in ((("a", "tests"), "tests"), (("trains", "a"), "trains"), (("trains", "tests"), "tests")):
        sharp = record(sources[0], size=(80, 60))
        (one,) = merged(sharp, record(sources[1])).records
        assert (one.source, one.image) == (kept, sharp.image)


def test_contradicting_labels_are_told_and_taken_away():
    found = merged(record("a", diagnosis="nevus", malignant=0), record("b", diagnosis="melanoma", malignant=1))
    assert found.contradictions == [("ISIC_0000001", "contradicting labels: melanoma / nevus")]
    assert [(one.diagnosis, one.malignant) for one in found.records] == [("", -1)]


def test_a_table_gives_labels_to_images_that_it_does_not_have():
    exact = {"ISIC_0000001": merging.Exact("squamous cell carcinoma", 1, "HAM_0000007")}
    found = merged(record("a", diagnosis=AKIEC, malignant=1), record("b", "ISIC_0000002", malignant=0), exact=exact)
    assert [(one.diagnosis, one.lesion_id) for one in found.records] == [
        ("squamous cell carcinoma", "HAM_0000007"),
        ("", ""),
    ]
    assert (found.exact, found.same_id) == (1, 0)


def test_file_names_mean_something_within_a_collection_only():
    found = merged(record("a", "1"), record("b", "1"), record("b", "2"))
    assert {one.image_id for one in found.records} == {"a/1", "b/1", "2"}


def test_lesions_and_patients_of_the_archive_are_known_in_all_collections():
    grouped = record("a", patient_id="group:patient:IP_0000001")
    lesion = record("a", "ISIC_0000002", patient_id="group:BCN_0000003")
    official_ids = record("b", "ISIC_0000003", patient_id="IP_0000001", lesion_id="IL_0000005")
    own = record("b", "ISIC_0000004", patient_id="group:12", lesion_id="12")
    assert [(one.patient_id, one.lesion_id) for one in merged(grouped, lesion, official_ids, own).records] == [
        ("IP_0000001", ""),
        ("", "BCN_0000003"),
        ("IP_0000001", "IL_0000005"),
        ("b: group:12", "b: 12"),
    ]


def test_collections_are_read_joined_and_dealt(tmp_path):
    """HAM10000 and ISIC 2019 have 40 images in common, of which 2019 calls every third `_downsampled`."""
    for name, write in (("ham10000", official.write_ham10000), ("isic2019", official.write_isic2019)):
        write(tmp_path / name, 40)
    official.write_isic2017(tmp_path / "isic2017", 12)
    sources = {name: Source(root=str(tmp_path / name)) for name in ("ham10000", "isic2019", "isic2017")}
    data = Data(collection="", collections=sources | {"isic2017": Source(root=str(tmp_path / "isic2017"), use="test")})
    contents = joining.collect(data)
    assert contents.merged.same_id == 40 and len(contents.records) == 40 + 24
    assert not contents.problems and not contents.merged.contradictions
    splits = config.Splits(test_fraction=0.2, validation_fraction=0.2, num_folds=3)
    prepared.prepare(data, splits, tmp_path / "records", tmp_path / "splits", for_training=False)
    rows = prepared.read_rows(tmp_path / "splits")
    facts = prepared.read_audit(tmp_path / "splits")
    tested = [row for row in rows if row.source == "isic2017"]
    assert {row.split for row in tested} == {"test", "unused"}  # its parts hold the same drawings, each is used once
    same = {row.group for row in tested}  # which the others hold too
    assert {row.split for row in rows if row.source != "isic2017" and row.group in same} == {"unused"}
    assert {row.split for row in rows if row.group not in same} == {"train", "validation", "test"}
    assert facts["joined"]["same id"] == 40 and not facts["leaking"]
    counts = facts["collections"]["isic2017"]
    assert (counts["use"], counts["images"], counts["groups"]) == ("test", 24, len(same))
    assert counts["joined_elsewhere"] == facts["joined"]["any of these"]["across_collections"] == len(same)
