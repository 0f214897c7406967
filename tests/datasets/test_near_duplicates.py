"""Hashes of altered pictures, and the search for pairs against brute force."""

import io
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from segfusion_jax.datasets import hashes as hashing
from segfusion_jax.datasets import images, near_duplicates
from segfusion_jax.datasets.files import DiskFile
from tests.datasets import official


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def resized(image: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))


def brightened(image: np.ndarray) -> np.ndarray:
    return np.clip(image * 1.15 + 10, 0, 255).astype(np.uint8)


ALTERATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "recompressed": lambda image: jpeg(image, 30),
    "halved": lambda image: resized(image, image.shape[1] // 2, image.shape[0] // 2),
    "squashed": lambda image: jpeg(resized(image, 128, 128), 60),
    "brightened": brightened,
    "darkened": lambda image: (image * 0.7).astype(np.uint8),
    "colour cast": lambda image: np.clip(image * [1.1, 1.0, 0.85], 0, 255).astype(np.uint8),
    "blurred": lambda image: cv2.GaussianBlur(image, (0, 0), 1.0),
    "cropped": lambda image: image[2:-2, 3:-3],
    "quarter turn": lambda image: np.rot90(image),
    "half turn": lambda image: np.rot90(image, 2),
    "mirrored": lambda image: image[:, ::-1],
    "transposed": lambda image: image.transpose(1, 0, 2),
    "turned and recompressed": lambda image: jpeg(np.rot90(image[:, ::-1]), 50),
}


def hash_of(image: np.ndarray) -> bytes:
    return hashing.perceptual_hash(np.ascontiguousarray(image))


@pytest.mark.parametrize("name", ALTERATIONS)
def test_altered_copies_are_found_and_other_lesions_are_not(name):
    records = {record.lesion_id: record for record in official.drawn(60)}
    pictures = [images.read(record.image) for record in records.values()]
    hashes = [hash_of(picture) for picture in pictures] + [hash_of(ALTERATIONS[name](p)) for p in pictures]
    assert near_duplicates.near_duplicates(hashes) == [(i, i + len(pictures)) for i in range(len(pictures))]


def test_a_frame_that_all_pictures_share_joins_hardly_any_of_them():
    records = {record.lesion_id: record for record in official.drawn(80)}
    down, across = np.mgrid[:144, :192]
    inside = np.hypot(down - 71.5, across - 95.5) < 68
    pictures = [np.where(inside[..., None], images.read(r.image), 8).astype(np.uint8) for r in records.values()]
    hashes = [hash_of(picture) for picture in pictures] + [hash_of(jpeg(picture, 50)) for picture in pictures]
    found = set(near_duplicates.near_duplicates(hashes))
    twins = {(i, i + len(pictures)) for i in range(len(pictures))}
    assert twins <= found and len(found) <= len(twins) + 2


def test_hash_does_not_depend_on_resolution():
    picture = images.read(official.drawn(1)[0].image)
    enlarged = np.repeat(np.repeat(picture, 5, axis=0), 7, axis=1)
    differing = np.bitwise_count(np.frombuffer(hash_of(picture) + hash_of(enlarged), np.uint64).reshape(2, 4))
    assert abs(int(differing[0].sum()) - int(differing[1].sum())) <= 8
    assert near_duplicates.near_duplicates([hash_of(picture), hash_of(enlarged)]) == [(0, 1)]


def test_constant_pictures_are_one_and_noise_is_not():
    constant = [hash_of(np.full((60, 80, 3), value, np.uint8)) for value in (0, 7, 128, 255)]
    assert set(constant) == {bytes(32)}
    rng = np.random.default_rng(0)
    noise = [hash_of(np.clip(rng.normal(128, 3, (150, 200, 3)), 0, 255).astype(np.uint8)) for _ in range(40)]
    assert near_duplicates.near_duplicates(constant + noise) == [(0, 1), (0, 2), (0, 3)]


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_no_picture_is_refused(image):
    with pytest.raises(ValueError, match="uint8 \\[height, width, 3\\]"):
        hashing.perceptual_hash(image)


def orientations(value: bytes) -> list[bytes]:
    """The hashes of a picture's eight orientations, bit by bit."""
    signs = np.unpackbits(np.frombuffer(value, np.uint8)).reshape(2, 2, 8, 8)
    found = []
    for transposed in (False, True):
        for flip_down in (0, 1):
            for flip_across in (0, 1):
                turned = np.zeros_like(signs)
                for down, across, a, b in np.ndindex(2, 2, 8, 8):
                    sign = signs[across, down, b, a] if transposed else signs[down, across, a, b]
                    turned[down, across, a, b] = sign ^ (flip_down & down) ^ (flip_across & across)
                found.append(np.packbits(turned).tobytes())
    return found


def bits(first: bytes, second: bytes) -> int:
    return (int.from_bytes(first) ^ int.from_bytes(second)).bit_count()


def clusters(n: int, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    i, j = np.array(pairs, int).reshape(-1, 2).T
    return connected_components(coo_array((np.ones(len(i)), (i, j)), shape=(n, n)))[1]


@given(st.integers(0, 2**32), st.integers(0, 40))
@settings(max_examples=25, deadline=None)
def test_pairs_connect_what_brute_force_connects(seed, n):
    rng = np.random.default_rng(seed)
    hashes: list[bytes] = []
    for _ in range(n):  # anew, or from an earlier one in some orientation, near the threshold
        value = rng.bytes(32)
        if hashes and rng.random() < 0.8:
            original = orientations(hashes[rng.integers(len(hashes))])[rng.integers(8)]
            flips = np.zeros(256, np.uint8)
            flips[rng.permutation(256)[: rng.choice([0, 30, 63, 64, 65, 66])]] = 1
            value = (np.frombuffer(original, np.uint8) ^ np.packbits(flips)).tobytes()
        hashes.append(value)
    turned = [orientations(value) for value in hashes]
    distance = {
        (i, j): min(bits(hashes[i], other) for other in turned[j]) for j in range(len(hashes)) for i in range(j)
    }
    pairs = near_duplicates.near_duplicates(hashes)
    close = [pair for pair, value in distance.items() if value <= near_duplicates.THRESHOLD]
    assert set(pairs) <= set(close) and len(pairs) <= max(0, n - 1) and pairs == sorted(pairs)
    np.testing.assert_array_equal(clusters(n, pairs), clusters(n, close))


def test_blocks_of_the_search_miss_nothing(monkeypatch):
    monkeypatch.setattr(near_duplicates, "_COLUMNS", 64)
    rng = np.random.default_rng(3)
    values = rng.integers(0, 256, (2000, 32), dtype=np.uint8)
    twins = rng.permutation(2000).reshape(-1, 2)
    values[twins[:, 1]] = values[twins[:, 0]]
    values[twins[:, 1], ::2] ^= 4  # 16 bits of each twin
    pairs = near_duplicates.near_duplicates([bytes(value) for value in values])
    assert pairs == sorted((int(min(twin)), int(max(twin))) for twin in twins)


def test_thousands_of_equal_and_of_almost_equal_hashes():
    rng = np.random.default_rng(4)
    almost = np.tile(rng.integers(0, 256, 32, dtype=np.uint8), (3000, 1))
    almost[np.arange(3000), rng.integers(0, 32, 3000)] ^= rng.integers(1, 256, 3000, dtype=np.uint8)
    hashes = [bytes(32)] * 50_000 + [bytes(value) for value in almost] + [rng.bytes(32)]
    pairs = near_duplicates.near_duplicates(hashes)
    assert len(pairs) == 49_999 + 2_999
    assert np.unique(clusters(len(hashes), pairs)).size == 3


@pytest.mark.parametrize("hashes", [[], [bytes(32)], [bytes(32), bytes([15, 240] * 16)]])
def test_nothing_to_pair(hashes):
    assert near_duplicates.near_duplicates(hashes) == []


def test_a_hash_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"\[8\] bytes; accepted: 32"):
        near_duplicates.near_duplicates([bytes(32), bytes(8)])


def test_real_pictures():
    folder = official.real("ham10000")
    files = [path for part in ("1", "2") for path in (folder / f"HAM10000_images_part_{part}").glob("*.jpg")]
    paths = {path.stem: path for path in files}
    twins = [("ISIC_0025226", "ISIC_0030074"), ("ISIC_0027027", "ISIC_0029036")]  # of two lesion ids each
    names = sorted(paths)[:: len(paths) // 300] + [name for pair in twins for name in pair]
    pictures = [images.read(DiskFile(paths[name], 1)) for name in dict.fromkeys(names)]
    altered = [jpeg(resized(np.rot90(picture), 128, 128), 75) for picture in pictures]
    pairs = near_duplicates.near_duplicates([hash_of(picture) for picture in pictures + altered])
    found = clusters(2 * len(pictures), pairs)
    place = {name: found[i] for i, name in enumerate(dict.fromkeys(names))}
    assert all(place[a] == place[b] for a, b in twins)
    np.testing.assert_array_equal(found[: len(pictures)], found[len(pictures) :])
    assert np.unique(found).size == len(pictures) - len(twins)
