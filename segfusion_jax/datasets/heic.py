"""HEIC, as telephones take photographs, with the extra [heic]."""

_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}


def formats(content: bytes) -> tuple[str, ...]:
    """Returns the format by which Pillow opens a file: ("HEIF",), after it has learned that, or () for all others.

    Raises:
      ValueError: it is HEIC, and pillow-heif is not installed.
    """
    if content[4:8] != b"ftyp" or content[8:12] not in _BRANDS:
        return ()
    try:
        import pillow_heif
    except ModuleNotFoundError:
        raise ValueError(
            "HEIC file: reading it needs pillow-heif, of the extra [heic]: pip install 'segfusion_jax[heic]'"
        ) from None
    pillow_heif.register_heif_opener()
    return ("HEIF",)
