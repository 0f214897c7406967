"""Uploads that are none: each is refused by a problem that says what was wrong, and the next good one is answered."""

import random
import struct
import zlib

import numpy as np
import pytest

from tests.serving.web.conftest import encoded, is_problem, picture, post

PNG, JPEG = encoded(picture()), encoded(picture(), "JPEG")
HEAD = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n'
END = b"\r\n--x--\r\n"
KIND = "multipart/form-data; boundary=x"


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, pixels: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


FILES = {
    "empty": b"",
    "text": b"hello",
    "zeros": bytes(5000),
    "html": b"<!doctype html><script>alert(1)</script>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "zip": b"PK\x03\x04" + bytes(100),
    "pdf": b"%PDF-1.7\n" + bytes(100),
    "gif": b"GIF89a" + bytes(100),
    "a PNG's beginning": PNG[:20],
    "half a PNG": PNG[: len(PNG) // 2],
    "half a JPEG": JPEG[: len(JPEG) // 2],
    "a JPEG's beginning": JPEG[:2],
    "a PNG whose pixels are no deflate stream": png(40, 30, b"nonsense"),
    "a PNG with too few pixels": png(40, 30, zlib.compress(bytes(10))),
    "a PNG without width": png(0, 30, zlib.compress(b"")),
    "a PNG of 65535 x 65535": png(65535, 65535, zlib.compress(bytes(1000))),
    "a PNG of 2^31 x 2^31": png(2**31 - 1, 2**31 - 1, zlib.compress(bytes(1000))),
    "a PNG of 30,000 x 30,000 zeros, packed": png(30000, 30000, zlib.compress(bytes(10_000_000))),
    "a PNG of too many chunks": PNG[:33] + chunk(b"tEXt", b"a\0b") * 100_001 + PNG[33:],
    "a TIFF of nonsense": b"II*\x00" + bytes(50),
    "a TIFF that points to itself": b"II*\x00\x08\x00\x00\x00" + b"\x00\x00" + b"\x08\x00\x00\x00",
    "a WebP of nonsense": b"RIFF\xff\xff\xff\xffWEBPVP8 " + bytes(50),
    "a BMP of nonsense": b"BM" + bytes(60),
    "a HEIC of nonsense": b"\x00\x00\x00\x18ftypheic" + bytes(50),
    "a DICOM file of nonsense": bytes(128) + b"DICM" + bytes(50),
    "a DICOM file's beginning": bytes(128) + b"DICM",
}

BODIES = {
    "nothing": (KIND, b"", 422),
    "no boundary": ("multipart/form-data", HEAD + PNG + END, 422),
    "an empty boundary": ("multipart/form-data; boundary=", HEAD + PNG + END, 422),
    "a boundary of 10,000": (f"multipart/form-data; boundary={'x' * 10000}", HEAD + PNG + END, 422),
    "another boundary": ("multipart/form-data; boundary=y", HEAD + PNG + END, 422),
    "JSON": ("application/json", b"{}", 415),
    "an image alone": ("image/png", PNG, 415),
    "a form": ("application/x-www-form-urlencoded", b"images=1", 415),
    "no type": ("", PNG, 415),
    "a type of nonsense": (";;;===\x7f", PNG, 415),
    "cut in its header": (KIND, HEAD[:40], 422),
    "cut in its content": (KIND, HEAD + PNG[:50], 422),
    "cut before its last boundary": (KIND, HEAD + PNG + b"\r\n--x", 422),
    "the second file cut": (KIND, HEAD + PNG + b"\r\n" + HEAD + PNG[:50], 422),
    "only the last boundary": (KIND, b"--x--\r\n", 422),
    "no file": (KIND, b'--x\r\nContent-Disposition: form-data; name="images"\r\n\r\ntext' + END, 422),
    "another field": (KIND, HEAD.replace(b"images", b"picture") + PNG + END, 422),
    "a field without a name": (KIND, HEAD.replace(b'name="images"; ', b"") + PNG + END, 422),
    "a part without headers": (KIND, b"--x\r\n\r\n" + PNG + END, 422),
    "a header without a colon": (KIND, b"--x\r\nContent-Disposition\r\n\r\n" + END, 422),
    "a header of a million": (KIND, HEAD[:-4] + b"; a=" + b"b" * 1_000_000 + b"\r\n\r\n" + PNG + END, 422),
    "a thousand headers": (KIND, HEAD[:-2] + b"A: b\r\n" * 1000 + b"\r\n" + PNG + END, 422),
    "a name of zeros": (KIND, HEAD.replace(b"images", b"\0\0\0") + PNG + END, 422),
    "a hundred files": (KIND, (HEAD + b"\r\n") * 100 + END, 413),
    "line ends of Unix": (KIND, (HEAD + PNG + END).replace(b"\r\n", b"\n"), 422),
}


def is_answered(client) -> bool:
    response = post(client, PNG)
    return response.status_code == 200 and response.json()["predictions"][0]["probability"] == pytest.approx(0.2)


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_no_image(client, kind):
    response = post(client, FILES[kind])
    assert response.status_code in (413, 422) and is_problem(response, response.status_code)
    (told,) = response.json()["files"]
    assert told["file"] == "0.png" and len(told["detail"]) > 10 and "JPEG" in response.json()["accepted"]
    assert is_answered(client)


@pytest.mark.parametrize("kind", BODIES)
def test_a_body_that_is_no_form(client, kind):
    content_type, body, status = BODIES[kind]
    headers = {"Content-Type": content_type} if content_type else {}
    response = client.post("/v1/predictions", content=body, headers=headers)
    assert is_problem(response, status) and response.json()["accepted"]
    assert is_answered(client)


@pytest.mark.parametrize(
    "options",
    [
        *({"prevalence": value} for value in ("0", "1", "-1", "nan", "inf", "x", "", "1e999")),
        *({"mask": value} for value in ("PNG", "", "coco", "x" * 5000)),
        *({"operating_point": value} for value in ("", "none", "own\0", "x" * 5000)),
        {"pictures": "perhaps"},
    ],
    ids=str,
)
def test_options_that_are_none(client, options):
    assert is_problem(post(client, PNG, **options), 422) and is_answered(client)


def test_all_files_that_are_wrong_are_named_and_none_is_answered(client, colours):
    response = post(client, PNG, b"nonsense", JPEG, b"")
    assert is_problem(response, 422) and [one["file"] for one in response.json()["files"]] == ["1.png", "3.png"]
    assert "2 of 4" in response.json()["detail"] and "predictions" not in response.json()


def damaged(draw: random.Random) -> bytes:
    """A good body with bytes changed, cut out, put twice or put in."""
    content = draw.choice([PNG, JPEG, *(encoded(picture(), kind) for kind in ("TIFF", "BMP", "WEBP"))])
    body = bytearray(HEAD + content + END)
    for _ in range(draw.randint(1, 8)):
        place, length = draw.randrange(len(body)), draw.choice([1, 1, 1, 4, 100])
        match draw.randrange(4):
            case 0:
                body[place : place + length] = draw.randbytes(min(length, len(body) - place))
            case 1:
                del body[place : place + length]
            case 2:
                body[place:place] = body[place : place + length]
            case _:
                body[place:place] = draw.randbytes(length)
        body = body or bytearray(b"x")
    return bytes(body)


def all_are_refused_or_answered(client, seeds) -> None:
    for seed in seeds:
        body = damaged(random.Random(seed))
        response = client.post("/v1/predictions", content=body, headers={"Content-Type": KIND})
        if response.status_code != 200:
            assert response.status_code in (413, 422) and is_problem(response, response.status_code), seed
        else:
            assert np.isfinite(response.json()["predictions"][0]["probability"])
    assert is_answered(client)


def test_damage(client):
    all_are_refused_or_answered(client, range(60))


@pytest.mark.fuzz
def test_much_damage(client):
    all_are_refused_or_answered(client, range(1000, 6000))
