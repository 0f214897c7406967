"""Colour profiles and grey of 16 bits: the picture that a viewer shows is the one that is read."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from segfusion_jax.datasets import colours, images
from segfusion_jax.datasets.files import MemoryFile
from tests.datasets.test_images import encoded, pixels, refused, store


def profile(space: bytes = b"RGB ", gamma: float = 2.2) -> bytes:
    """An ICC profile with the primaries of Adobe RGB, or of grey, written by the specification (ICC.1)."""

    def xyz(*values):
        return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"wide\0" + bytes(78)
    tags = {"desc": text + bytes(-len(text) % 4), "cprt": b"text\0\0\0\0none\0\0\0\0", "wtpt": xyz(0.9642, 1, 0.8249)}
    if space == b"GRAY":
        tags["kTRC"] = curve
    else:
        primaries = (0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)
        for name, primary in zip("rgb", primaries, strict=True):
            tags |= {f"{name}XYZ": xyz(*primary), f"{name}TRC": curve}
    table, body, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for tag, data in tags.items():
        table += tag.encode() + struct.pack(">II", start + len(body), len(data))
        body += data
    head = struct.pack(">I4sI4s4s4s", 128 + len(table + body), bytes(4), 0x02100000, b"mntr", space, b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">iii", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + table + body


def skin(height: int = 60, width: int = 80) -> Image.Image:
    rng = np.random.default_rng(0)
    values = np.array([190, 110, 90]) + rng.normal(0, 20, (height // 10, width // 10, 3))
    small = Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
    return small.resize((width, height), Image.Resampling.NEAREST)


def in_wide_space(image: Image.Image) -> Image.Image:
    own, wide = ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(io.BytesIO(profile()))
    converted = ImageCms.profileToProfile(image, ImageCms.ImageCmsProfile(own), wide, outputMode="RGB")
    assert converted is not None
    return converted


def read(content: bytes) -> np.ndarray:
    return images.read(MemoryFile("a", content))


@pytest.mark.parametrize(("kind", "most"), [("PNG", 2), ("TIFF", 2), ("JPEG", 4), ("WEBP", 2)])
def test_colours_are_those_that_the_profile_means(kind, most):
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    content = encoded(in_wide_space(skin()), kind, icc_profile=profile(), **options)
    expected = np.asarray(skin()).astype(int)
    assert np.abs(np.asarray(in_wide_space(skin())).astype(int) - expected).max() > 20, "nothing is tested"
    assert np.abs(read(content) - expected).max() <= most
    kept = store(content)
    assert kept.profile == "wide"
    assert np.abs(pixels(kept.image).astype(int) - expected).mean() < 3
    assert np.array_equal(read(content), images.read_with_profile(MemoryFile("a", content))[0])


def test_a_profile_of_srgb_changes_no_byte_of_what_is_kept():
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    content = encoded(skin(), "JPEG", quality=95, icc_profile=own)
    kept = store(content)
    assert kept.image == content and not kept.profile
    np.testing.assert_array_equal(read(content), read(encoded(skin(), "JPEG", quality=95)))


def test_grey_with_a_profile_of_grey():
    grey = np.tile(np.arange(256, dtype=np.uint8), (4, 1))
    linear = read(encoded(grey, icc_profile=profile(b"GRAY", 1.0)))[0, :, 0].astype(int)
    # sRGB's own curve (IEC 61966-2-1), of light 0.5
    assert abs(linear[128] - round(255 * (1.055 * (128 / 255) ** (1 / 2.4) - 0.055))) <= 1
    assert (np.diff(linear) >= 0).all() and linear[0] == 0 and linear[255] == 255


@pytest.mark.parametrize("damaged", [b"no profile", profile()[:200], profile(b"GRAY")], ids=["text", "cut", "of grey"])
def test_a_profile_that_cannot_be_used_is_counted_and_means_nothing(damaged, monkeypatch):
    content = encoded(skin(), icc_profile=damaged)
    np.testing.assert_array_equal(read(content), np.asarray(skin()))
    told = []
    monkeypatch.setattr(images._log, "warning", lambda *arguments: told.append(arguments[0] % arguments[1:]))
    images.tell_profiles({store(content).profile: 3})
    assert told == ["3 images have a colour profile that cannot be used: taken as sRGB"]


def test_grey_of_16_bits_is_scaled_by_the_range_of_the_format():
    values = np.tile(np.array([0, 128, 129, 257, 32768, 65534, 65535], np.uint16), (3, 1))
    expected = np.round(values.astype(float) / 257).astype(np.uint8)
    for kind in ("PNG", "TIFF"):
        picture = read(encoded(values, kind))
        np.testing.assert_array_equal(picture, np.repeat(expected[..., None], 3, axis=2))
    whole = np.tile(np.linspace(0, 65535, 80).astype(np.uint16), (60, 1))
    kept = pixels(store(encoded(whole)).image).astype(int)
    assert kept.shape == (60, 80, 3) and np.abs(kept[..., 0] - whole / 257).max() <= 3


def test_white_may_be_zero_in_tiff():
    values = np.tile(np.array([0, 65535], np.uint16), (3, 1))
    assert read(encoded(values, "TIFF", tiffinfo={262: 0}))[0, :, 0].tolist() == [255, 0]


@pytest.mark.parametrize("largest", [255, 1023, 4095])
def test_grey_of_fewer_bits_in_16_is_refused_with_the_remedy(largest):
    values = np.full((60, 80), largest, np.uint16)
    assert f"8 bits a channel: its 16 bits hold no more than {largest}" in refused(encoded(values))
    with pytest.raises(ValueError, match="save it with 8 bits, or scaled to the range 0 to 65535"):
        read(encoded(values))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_numbers_without_a_range_are_refused(dtype):
    assert "whose range is not known" in refused(encoded(np.full((60, 80), 70000, dtype), "TIFF"))


def norms(picture: np.ndarray) -> np.ndarray:
    return ((picture / 255.0) ** 6).mean((0, 1)) ** (1 / 6)


def test_in_even_light_channels_have_one_norm_and_pictures_of_another_light_are_the_same():
    picture = np.asarray(skin())
    tinted = (picture * np.array([1.0, 0.8, 0.6])).astype(np.uint8)
    assert np.ptp(norms(tinted)) > 0.1 > 0.01 > np.ptp(norms(colours.even(tinted)))
    assert norms(colours.even(tinted)).mean() == pytest.approx(norms(tinted).mean(), abs=0.01)
    brightness = norms(picture).mean() / norms(tinted).mean()
    apart = colours.even(tinted) * brightness - colours.even(picture)
    assert np.abs(apart).mean() < 2  # grey levels, of rounding
    grey = np.full((4, 4, 3), 90, np.uint8)
    assert np.array_equal(colours.even(grey), grey)
    assert np.array_equal(colours.even(0 * grey), 0 * grey)


def test_images_are_stored_in_even_light_where_it_is_asked_for():
    content = encoded(skin(), "PNG")
    as_is, even = store(content), store(content, illumination="even")
    assert as_is.image == content
    assert np.ptp(norms(pixels(content))) > 0.02 > np.ptp(norms(pixels(even.image)))
    assert even.perceptual_hash == as_is.perceptual_hash  # pictures are known again by what they were
