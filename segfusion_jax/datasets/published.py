"""Collections that are published without a login, downloaded under their official names; zips stay zips.

ISIC 2024 (Kaggle) and PH2 need a login and are not here.
"""

import dataclasses
import json
import logging
import pathlib
import shutil
import tempfile
from typing import Any

from segfusion_jax.runtime.downloads import Remote, announced_size, fetch, kept_size

_log = logging.getLogger(__name__)

DATAVERSE = "https://dataverse.harvard.edu"
ISIC = "https://isic-challenge-data.s3.amazonaws.com"

_HAM10000_DOI = "10.7910/DVN/DBW86T"
_PAGES = {"ham10000": f"https://doi.org/{_HAM10000_DOI}"} | {
    f"isic{year}": f"https://challenge.isic-archive.com/data/#{year}" for year in (2017, 2018, 2019, 2020)
}

FILES: dict[str, tuple[str, ...]] = {
    "ham10000": (
        "HAM10000_metadata",
        "HAM10000_segmentations_lesion_tschandl.zip",
        "HAM10000_images_part_1.zip",
        "HAM10000_images_part_2.zip",
    ),
    "isic2017": tuple(
        f"ISIC-2017_{part}_{content}"
        for part in ("Training", "Validation", "Test_v2")
        for content in ("Part3_GroundTruth.csv", "Part1_GroundTruth.zip", "Data.zip")
    ),
    "isic2018": (
        "ISIC2018_Task3_Training_LesionGroupings.csv",
        *(
            f"ISIC2018_{content}.zip"
            for part in ("Training", "Validation", "Test")
            for content in (f"Task1_{part}_GroundTruth", f"Task3_{part}_GroundTruth")
        ),
        *(
            f"ISIC2018_{content}.zip"
            for part in ("Training", "Validation", "Test")
            for content in (f"Task1-2_{part}_Input", f"Task3_{part}_Input")
        ),
    ),
    "isic2019": tuple(
        f"ISIC_2019_{part}_{content}"
        for content in ("GroundTruth.csv", "Metadata.csv", "Input.zip")
        for part in ("Test", "Training")
    ),
    "isic2020": (
        "ISIC_2020_Training_GroundTruth_v2.csv",
        "ISIC_2020_Training_Duplicates.csv",
        "ISIC_2020_Training_JPEG.zip",
    ),
}
"""The files of each collection, the small ones first: of 2018 those of tasks 1 and 3, of 2020 the training part."""


def download(collection: str, folder: pathlib.Path, *, dataverse: str = DATAVERSE, isic: str = ISIC) -> None:
    """Downloads what `folder` lacks of a collection; what is there is not checked again.

    Args:
      collection: a key of `FILES`.
      folder: made if it is missing.
      dataverse: server of HAM10000.
      isic: server of the ISIC challenges' files.

    Raises:
      ValueError: the collection is not among `FILES`, or a file came with another size or checksum, or as a broken zip.
      OSError: the disk has too little room, or the download failed; says where to get the files by hand.
    """
    if collection not in FILES:
        raise ValueError(f"{collection!r} cannot be downloaded; accepted are {', '.join(FILES)}")
    names = _missing(collection, folder)
    if not names:
        return
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if collection == "ham10000":
            remotes = _on_dataverse(names, dataverse)
        else:
            remotes = _with_sizes(f"{isic}/{collection.removeprefix('isic')}", names)
        _check_room(collection, remotes, folder)
        for remote in remotes:
            fetch(remote, folder)
    except OSError as error:
        raise OSError(
            f"{collection} could not be downloaded: {error}. Start again to go on where it stopped, or get "
            f"{', '.join(_missing(collection, folder))} by hand from {_PAGES[collection]} and put them, without "
            f"unpacking them, into {folder}"
        ) from error


def _missing(collection: str, folder: pathlib.Path) -> list[str]:
    return [name for name in FILES[collection] if not (folder / name).exists()]


def _with_sizes(address: str, names: list[str]) -> list[Remote]:
    """Returns the files of a server that publishes no checksums, with the sizes that it announces."""
    remotes = [Remote(f"{address}/{name}") for name in names]
    return [dataclasses.replace(remote, size=announced_size(remote)) for remote in remotes]


def _on_dataverse(names: list[str], server: str) -> list[Remote]:
    """Returns HAM10000's files as Dataverse's native API lists them, with size and MD5."""
    url = f"{server}/api/datasets/:persistentId/?persistentId=doi:{_HAM10000_DOI}"
    with tempfile.TemporaryDirectory() as folder:
        listing = fetch(Remote(url, "HAM10000.json"), pathlib.Path(folder)).read_bytes()
    try:
        files = {entry["label"]: entry["dataFile"] for entry in json.loads(listing)["data"]["latestVersion"]["files"]}
        return [_data_file(name, files, server) for name in names]
    except (ValueError, KeyError, TypeError) as error:
        raise OSError(f"{url} is not the list of files that was expected ({error!r})") from error


def _data_file(name: str, files: dict[str, dict[str, Any]], server: str) -> Remote:
    table = files.get(f"{name}.tab")
    if table is None:
        file = files[name]
        return Remote(f"{server}/api/access/datafile/{file['id']}", name, md5=file["md5"], size=file["filesize"])
    # Dataverse has made a table of its own of it. Its MD5 should be the original's, but has been the table's:
    # https://github.com/IQSS/dataverse/issues/9501
    url = f"{server}/api/access/datafile/{table['id']}?format=original"
    return Remote(url, name, size=table.get("originalFileSize", 0))


def _check_room(collection: str, remotes: list[Remote], folder: pathlib.Path) -> None:
    needed = sum(max(remote.size - kept_size(remote, folder), 0) for remote in remotes)
    free = shutil.disk_usage(folder).free
    at_least = "" if all(remote.size for remote in remotes) else "at least "
    what = f"{len(remotes)} files, {at_least}{needed / 1e9:.2f} GB"
    if needed > free:
        raise OSError(f"{what} do not fit into the {free / 1e9:.2f} GB that are free in {folder}")
    _log.info("%s: downloading %s, into %s", collection, what, folder)
