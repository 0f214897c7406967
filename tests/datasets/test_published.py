"""Downloads of collections, from a server of our own that is laid out like Harvard's Dataverse and ISIC's S3."""

import hashlib
import io
import json
import pathlib
import shutil
import subprocess
import sys
import types
import zipfile

import pytest

import segfusion_jax.runtime.downloads
from segfusion_jax.datasets import published
from segfusion_jax.datasets.published import FILES
from tests import file_server

LISTING = "/api/datasets/:persistentId/?persistentId=doi:10.7910/DVN/DBW86T"
ORIGINAL, TABLE = b"lesion_id,image_id,dx\nHAM_0000118,ISIC_0027419,bkl\n", b"HAM_0000118\tISIC_0027419\tbkl\n"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(segfusion_jax.runtime.downloads, "_PAUSE", 0.0)
    monkeypatch.setenv("no_proxy", "*")
    with file_server.running() as running:
        yield running


def content(name: str) -> bytes:
    """Something that differs from file to file: a zip with one member, or a table."""
    if not name.endswith(".zip"):
        return f"image,{name}\n".encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        member = zipfile.ZipInfo(f"{name.removesuffix('.zip')}/ISIC_0024306.jpg")  # without the time of day
        archive.writestr(member, name.encode() * 100)
    return buffer.getvalue()


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def lay_out_dataverse(server: file_server.Server, *, ingested: bool = True) -> None:
    """HAM10000 with two files that are not wanted; zips are redirected to a store, as Harvard does it."""
    entries = []
    zips = [name for name in FILES["ham10000"] if name.endswith(".zip")]
    for number, name in enumerate([*zips, "ISIC2018_Task3_Test_Images.zip"], start=3172584):
        stored = f"/store/{number}?X-Amz-Signature=1"
        server.redirects[f"/api/access/datafile/{number}"] = stored
        server.files[stored] = content(name)
        facts = {"id": number, "filename": name, "filesize": len(content(name)), "md5": md5(content(name))}
        entries.append({"label": name, "restricted": False, "dataFile": facts})
    address = "/api/access/datafile/4338392"
    server.files |= {address: TABLE if ingested else ORIGINAL, f"{address}?format=original": ORIGINAL}
    table = {"id": 4338392, "filename": "HAM10000_metadata.tab", "filesize": len(TABLE), "md5": md5(TABLE)}
    table |= {"originalFileFormat": "text/csv", "originalFileSize": len(ORIGINAL), "UNF": "UNF:6:0"}
    plain = {"id": 4338392, "filename": "HAM10000_metadata", "filesize": len(ORIGINAL), "md5": md5(ORIGINAL)}
    entries.append(
        {"label": table["filename"] if ingested else plain["filename"], "dataFile": table if ingested else plain}
    )
    entries.append({"label": "readme.txt", "dataFile": {"id": 1, "filename": "readme.txt", "filesize": 1}})
    answer = {"status": "OK", "data": {"latestVersion": {"versionNumber": 4, "files": entries}}}
    server.files[LISTING] = json.dumps(answer).encode()


def lay_out_isic(server: file_server.Server) -> None:
    for collection, names in FILES.items():
        if collection != "ham10000":
            server.files |= {f"/{collection[-4:]}/{name}": content(name) for name in names}


def download(server: file_server.Server, collection: str, folder: pathlib.Path) -> None:
    published.download(collection, folder, dataverse=server.address, isic=server.address)


def files(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".lock"}


class TestNames:
    """Against names written down from the collections' pages and other projects' scripts, not made by a rule."""

    def test_isic2017(self):
        assert set(FILES["isic2017"]) == {
            "ISIC-2017_Training_Data.zip",
            "ISIC-2017_Training_Part1_GroundTruth.zip",
            "ISIC-2017_Training_Part3_GroundTruth.csv",
            "ISIC-2017_Validation_Data.zip",
            "ISIC-2017_Validation_Part1_GroundTruth.zip",
            "ISIC-2017_Validation_Part3_GroundTruth.csv",
            "ISIC-2017_Test_v2_Data.zip",
            "ISIC-2017_Test_v2_Part1_GroundTruth.zip",
            "ISIC-2017_Test_v2_Part3_GroundTruth.csv",
        }

    def test_isic2018(self):
        assert set(FILES["isic2018"]) == {
            "ISIC2018_Task1-2_Training_Input.zip",
            "ISIC2018_Task1-2_Validation_Input.zip",
            "ISIC2018_Task1-2_Test_Input.zip",
            "ISIC2018_Task1_Training_GroundTruth.zip",
            "ISIC2018_Task1_Validation_GroundTruth.zip",
            "ISIC2018_Task1_Test_GroundTruth.zip",
            "ISIC2018_Task3_Training_Input.zip",
            "ISIC2018_Task3_Validation_Input.zip",
            "ISIC2018_Task3_Test_Input.zip",
            "ISIC2018_Task3_Training_GroundTruth.zip",
            "ISIC2018_Task3_Validation_GroundTruth.zip",
            "ISIC2018_Task3_Test_GroundTruth.zip",
            "ISIC2018_Task3_Training_LesionGroupings.csv",
        }

    def test_isic2019(self):
        assert set(FILES["isic2019"]) == {
            "ISIC_2019_Training_Input.zip",
            "ISIC_2019_Training_GroundTruth.csv",
            "ISIC_2019_Training_Metadata.csv",
            "ISIC_2019_Test_Input.zip",
            "ISIC_2019_Test_GroundTruth.csv",
            "ISIC_2019_Test_Metadata.csv",
        }

    def test_every_collection_has_a_page(self):
        assert FILES.keys() == published._PAGES.keys()


class TestHam10000:
    @pytest.mark.parametrize("ingested", [True, False])
    def test_is_listed_and_downloaded(self, server, tmp_path, ingested):
        lay_out_dataverse(server, ingested=ingested)
        download(server, "ham10000", tmp_path / "new" / "ham10000")
        zips = {name: content(name) for name in FILES["ham10000"] if name.endswith(".zip")}
        assert files(tmp_path / "new" / "ham10000") == zips | {"HAM10000_metadata": ORIGINAL}

    def test_a_wrong_checksum_is_an_error(self, server, tmp_path):
        lay_out_dataverse(server)
        name = FILES["ham10000"][-1]
        stored = next(path for path, data in server.files.items() if data == content(name))
        server.files[stored] = content(name)[:-1] + b"\1"
        with pytest.raises(ValueError, match=f"{server.address}.*has MD5 .*, expected {md5(content(name))}"):
            download(server, "ham10000", tmp_path)
        assert name not in files(tmp_path) and f"{name}.part" not in files(tmp_path)
        assert len(files(tmp_path)) == 3

    @pytest.mark.parametrize("cut", [0, 40])
    def test_a_cut_download_is_gone_on_with(self, server, tmp_path, cut):
        lay_out_dataverse(server)
        length = len(server.files[LISTING])
        server.cuts = [length, cut]
        download(server, "ham10000", tmp_path)
        assert len(files(tmp_path)) == 4
        assert (f"bytes={cut}-" in server.requests) == (cut > 0)

    @pytest.mark.parametrize(
        "answer",
        [
            b"<html>",
            b"\xff\xff",
            b"[]",
            b'{"status": "ERROR"}',
            b'{"data": {"latestVersion": {"files": []}}}',
            b'{"data": []}',
        ],
    )
    def test_another_answer_than_a_listing_is_an_error(self, server, tmp_path, answer):
        server.files[LISTING] = answer
        with pytest.raises(OSError, match="not the list of files .*https://doi.org/10.7910/DVN/DBW86T"):
            download(server, "ham10000", tmp_path)

    def test_the_listing_is_tried_again(self, server, tmp_path):
        lay_out_dataverse(server)
        server.statuses = [503, 429]
        download(server, "ham10000", tmp_path)
        assert len(files(tmp_path)) == 4


class TestIsic:
    @pytest.mark.parametrize("collection", ["isic2017", "isic2018", "isic2019", "isic2020"])
    def test_is_downloaded(self, server, tmp_path, collection):
        lay_out_isic(server)
        download(server, collection, tmp_path)
        assert files(tmp_path) == {name: content(name) for name in FILES[collection]}

    def test_a_corrupt_zip_is_an_error(self, server, tmp_path):
        lay_out_isic(server)
        name = "ISIC_2019_Training_Input.zip"
        server.files[f"/2019/{name}"] = content(name).replace(b"zip", b"zap", 2)
        with pytest.raises(ValueError, match=f"/2019/{name} is a broken zip"):
            download(server, "isic2019", tmp_path)
        assert files(tmp_path).keys() == set(FILES["isic2019"]) - {name}

    def test_a_file_that_became_another_after_its_size_was_asked_for_is_an_error(self, server, tmp_path, monkeypatch):
        lay_out_isic(server)
        monkeypatch.setattr(published, "announced_size", lambda remote: 3)
        with pytest.raises(ValueError, match="bytes, expected 3"):
            download(server, "isic2020", tmp_path)
        assert not files(tmp_path)

    def test_a_server_that_tells_no_sizes(self, server, tmp_path, caplog):
        lay_out_isic(server)
        server.head = False
        with caplog.at_level("INFO", "segfusion_jax"):
            download(server, "isic2020", tmp_path)
        assert files(tmp_path) == {name: content(name) for name in FILES["isic2020"]}
        assert "isic2020: downloading 3 files, at least 0.00 GB" in caplog.messages[0]

    def test_a_missing_file_is_told_before_anything_is_downloaded(self, server, tmp_path):
        lay_out_isic(server)
        del server.files["/2020/ISIC_2020_Training_Duplicates.csv"]
        with pytest.raises(OSError) as error:
            download(server, "isic2020", tmp_path / "isic2020")
        for text in (
            "isic2020",
            "HTTP Error 404",
            "ISIC_2020_Training_Duplicates.csv",
            "https://challenge.isic-archive.com/data/#2020",
            str(tmp_path / "isic2020"),
        ):
            assert text in str(error.value)
        assert not server.requests

    def test_processes_that_ask_at_once_download_once(self, server, tmp_path):
        lay_out_isic(server)
        server.pause = 0.3
        program = (
            "import pathlib, sys; from segfusion_jax.datasets import published; "
            "published.download('isic2020', pathlib.Path(sys.argv[1]), isic=sys.argv[2])"
        )
        command = [sys.executable, "-c", program, str(tmp_path), server.address]
        running = [subprocess.Popen(command) for _ in range(2)]
        assert [process.wait(timeout=60) for process in running] == [0, 0]
        assert files(tmp_path) == {name: content(name) for name in FILES["isic2020"]}
        assert len(server.requests) == 3


class TestWhatIsThere:
    @pytest.mark.parametrize("collection", FILES)
    def test_nothing_is_asked_for_where_nothing_lacks(self, server, tmp_path, collection):
        for name in FILES[collection]:
            (tmp_path / name).write_bytes(b"as it is")
        download(server, collection, tmp_path)
        assert not server.asked
        assert set(files(tmp_path).values()) == {b"as it is"}

    def test_only_what_lacks_is_downloaded(self, server, tmp_path):
        lay_out_isic(server)
        first, *others = FILES["isic2019"]
        (tmp_path / first).write_bytes(b"as it is")
        download(server, "isic2019", tmp_path)
        assert files(tmp_path) == {first: b"as it is"} | {name: content(name) for name in others}
        assert not any(first in request for request in server.asked)


class TestRoom:
    def disk(self, monkeypatch, free: int):
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=free))

    def test_a_disk_with_too_little_room_is_told_before_anything_is_downloaded(self, server, tmp_path, monkeypatch):
        lay_out_dataverse(server)
        self.disk(monkeypatch, 500)
        with pytest.raises(OSError, match=f"4 files, 0.00 GB do not fit into the 0.00 GB that are free in {tmp_path}"):
            download(server, "ham10000", tmp_path)
        assert server.asked == [f"GET {LISTING}"]

    def test_what_came_before_needs_no_room(self, server, tmp_path, monkeypatch):
        lay_out_isic(server)
        sizes = {name: len(content(name)) for name in FILES["isic2020"]}
        self.disk(monkeypatch, sum(sizes.values()) - 50)
        with pytest.raises(OSError, match="do not fit"):
            download(server, "isic2020", tmp_path)
        name = "ISIC_2020_Training_JPEG.zip"
        (tmp_path / f"{name}.part").write_bytes(content(name)[:50])
        download(server, "isic2020", tmp_path)
        assert files(tmp_path)[name] == content(name)

    def test_the_total_is_logged_first(self, server, tmp_path, monkeypatch, caplog):
        lay_out_isic(server)
        monkeypatch.setattr(published, "fetch", lambda remote, folder: None)
        monkeypatch.setattr(published, "announced_size", lambda remote: 1_234_000_000)
        self.disk(monkeypatch, 10**10)
        with caplog.at_level("INFO", "segfusion_jax"):
            download(server, "isic2020", tmp_path)
        assert caplog.messages == [f"isic2020: downloading 3 files, 3.70 GB, into {tmp_path}"]


@pytest.mark.parametrize("collection", ["isic2024", "ph2", "synthetic", ""])
def test_other_collections_are_refused(collection, tmp_path):
    with pytest.raises(ValueError, match=f"'{collection}' cannot be downloaded; accepted are ham10000, isic2017"):
        published.download(collection, tmp_path)
