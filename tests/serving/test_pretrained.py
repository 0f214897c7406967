"""A released model is found in a folder, on the web and on the hub, and is checked wherever it is from."""

import hashlib
import http.server
import pathlib
import shutil
import sys
import threading

import pytest

import segfusion_jax as sf
from segfusion_jax.runtime import caches, downloads
from segfusion_jax.serving import model_folder, pretrained
from tests.file_server import running

RELEASED = pathlib.Path(__file__).parents[2] / "released" / "ham10000"
FILES = {path: (RELEASED / path).read_bytes() for path in (model_folder.MANIFEST, *model_folder.digests(RELEASED))}
DIGEST = hashlib.sha256(FILES[model_folder.MANIFEST]).hexdigest()
WEIGHTS = "classifier.safetensors"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return caches.folder() / "models"


@pytest.fixture
def web():
    with running() as server:
        server.files = {f"/models/ham/{name}": content for name, content in FILES.items()}
        yield server


def test_a_folder_is_taken_as_it_is(cache):
    assert pretrained.find(RELEASED) == RELEASED and not cache.exists()


def test_files_of_an_address_are_fetched_once_and_are_the_same(web, cache):
    folder = pretrained.find(f"{web.address}/models/ham/")
    assert folder == cache / DIGEST
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".lock"} == FILES
    web.asked.clear()
    assert pretrained.find(f"{web.address}/models/ham") == folder
    assert [one for one in web.asked if one.startswith("GET")] == [f"GET /models/ham/{model_folder.MANIFEST}"]
    web.asked.clear()
    assert pretrained.find(f"{web.address}/models/ham", sha256=DIGEST.upper()) == folder and not web.asked


def test_a_fetch_that_was_cut_off_goes_on(web, cache, monkeypatch):
    monkeypatch.setattr(downloads, "_PAUSE", 0.01)
    web.files = dict(sorted(web.files.items(), key=lambda item: item[0]))
    sizes = {len(content) for content in FILES.values()}
    pretrained.find(f"{web.address}/models/ham")
    shutil.rmtree(cache)
    web.requests.clear()
    web.cuts = [max(sizes), 5000]  # the manifest whole, then 5000 bytes of the next file
    pretrained.find(f"{web.address}/models/ham")
    assert web.requests.count("bytes=5000-") == 1
    assert model_folder.open_folder(cache / DIGEST).digest == DIGEST


@pytest.mark.parametrize("name", [WEIGHTS, "metadata.json", "split.csv"])
def test_a_file_that_is_another_is_not_kept(web, cache, name):
    web.files[f"/models/ham/{name}"] = FILES[name][:-1] + b"~"
    with pytest.raises(ValueError, match=f"{name} has SHA-256 .*; it was not kept"):
        pretrained.find(f"{web.address}/models/ham")
    assert not (cache / DIGEST / name).exists() and not (cache / DIGEST / model_folder.MANIFEST).exists()


def test_another_model_than_the_one_that_is_meant_is_refused(web, cache):
    with pytest.raises(ValueError, match=f"SHA-256 of its manifest.json is {DIGEST}, not {'0' * 64}"):
        pretrained.find(f"{web.address}/models/ham", sha256="0" * 64)
    assert [path for path in cache.iterdir()] == []
    with pytest.raises(ValueError, match=f"is the model {DIGEST}, not {'0' * 64}"):
        sf.SegFusion.from_pretrained(RELEASED, sha256="0" * 64)


@pytest.mark.parametrize(
    ("manifest", "told"),
    [
        (b"<html>", "is not JSON"),
        (
            b'{"files": {"../../evil": "' + b"0" * 64 + b'", "metadata.json": "' + b"0" * 64 + b'"}}',
            "no plain file name",
        ),
        (b'{"files": {"metadata.json": "00"}}', "is no SHA-256"),
        (b'{"files": {}}', "must be 1 to"),
    ],
)
def test_a_manifest_that_is_none_writes_nothing(web, cache, manifest, told):
    web.files["/models/ham/manifest.json"] = manifest
    with pytest.raises(ValueError, match=told):
        pretrained.find(f"{web.address}/models/ham")
    assert list(cache.iterdir()) == []


def test_a_file_that_is_too_large_is_not_kept(web, cache, monkeypatch):
    monkeypatch.setattr(model_folder, "BYTES", 10_000)
    with pytest.raises(ValueError, match="has more than 10000 bytes, which is all that is received"):
        pretrained.find(f"{web.address}/models/ham")
    assert not [path for path in cache.rglob("*") if path.is_file() and path.stat().st_size > 10_000]


def test_a_file_that_was_damaged_in_the_cache_is_fetched_again(web, cache):
    folder = pretrained.find(f"{web.address}/models/ham")
    digest, before = folder.name, (folder / "split.csv").read_bytes()
    for again in (f"{web.address}/models/ham", f"{web.address}/models/ham/"):
        (folder / "split.csv").write_bytes(before + b"x")
        assert pretrained.find(again, sha256=digest) == folder and (folder / "split.csv").read_bytes() == before


@pytest.mark.parametrize("name", ["ham10000", "a/b/c", "ftp://x/y", "../up"])
def test_what_is_nothing_is_told(name):
    with pytest.raises(FileNotFoundError, match="is no folder: give that of a released model, its address"):
        pretrained.find(name)


def test_the_hub_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(OSError, match=r"segfusion_jax\[hub\]"):
        pretrained.find("owner/ham")


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers as the hub does for the files of the repository owner/ham at the revision v1."""

    files: dict[str, bytes] = FILES

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.wfile.write(self.answer() or b"")

    def answer(self):
        name = self.path.removeprefix("/owner/ham/resolve/v1/")
        content = self.files.get(name)
        self.send_response(404 if content is None else 200)
        if content is not None:
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", "0" * 40)
        self.end_headers()
        return content

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("fault", [False, True])
def test_a_repository_of_the_hub(monkeypatch, cache, fault):
    hub = pytest.importorskip("huggingface_hub", reason="needs the extra [hub]")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    fetch = hub.hf_hub_download
    monkeypatch.setattr(hub, "hf_hub_download", lambda *args, **options: fetch(*args, **options, endpoint=address))
    monkeypatch.setattr(Hub, "files", FILES | ({WEIGHTS: b"other"} if fault else {}))
    try:
        if fault:
            with pytest.raises(ValueError, match=f"{WEIGHTS}: has SHA-256 .*; it was not kept"):
                pretrained.find("owner/ham", revision="v1")
        else:
            folder = pretrained.find("owner/ham", revision="v1", sha256=DIGEST)
            assert model_folder.open_folder(folder).digest == DIGEST
    finally:
        server.shutdown()
        server.server_close()
