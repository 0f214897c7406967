import io
import struct
import tracemalloc
import zipfile

import pytest

from segfusion_jax.runtime import zips


def archive(method: int, content: bytes, declared: int | None = None) -> zipfile.ZipFile:
    """An archive of one member, whose directory may declare another size."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        file.writestr("a", content)
    data = bytearray(buffer.getvalue())
    if declared is not None:
        at = data.rindex(b"PK\x01\x02") + 24
        data[at : at + 4] = struct.pack("<I", declared)
    return zipfile.ZipFile(io.BytesIO(data))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_member_up_to_the_limit_is_read_and_a_larger_one_is_not(method):
    with archive(method, b"abc" * 1000) as file:
        assert zips.read(file, file.getinfo("a"), 3000) == b"abc" * 1000
        with pytest.raises(ValueError, match="a: more than 2999 bytes"):
            zips.read(file, file.getinfo("a"), 2999)


@pytest.mark.parametrize("declared", [1000, 1 << 31])
def test_no_more_is_unpacked_than_is_declared_or_allowed(declared):
    with archive(zipfile.ZIP_DEFLATED, bytes(100_000_000), declared) as file:
        tracemalloc.start()
        try:
            with pytest.raises((ValueError, zipfile.BadZipFile)):
                zips.read(file, file.getinfo("a"), 2_000_000)
            assert tracemalloc.get_traced_memory()[1] < 10_000_000
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(method):
    with archive(method, b"a") as file, pytest.raises(ValueError, match="must be stored or deflated"):
        zips.read(file, file.getinfo("a"), 100)
