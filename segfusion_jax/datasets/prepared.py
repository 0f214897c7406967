"""Prepared data: what every other room reads. `prepare` writes it, `load` opens it."""

import contextlib
import dataclasses
import hashlib
import io
import json
import logging
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from segfusion_jax import config
from segfusion_jax.datasets import both_kinds, builder, classes, identity, own_split, table
from segfusion_jax.datasets.audit import audit, union
from segfusion_jax.datasets.causes import refuse_indivisible
from segfusion_jax.datasets.groups import joined
from segfusion_jax.datasets.joining import Collection, UnusableImages, collect
from segfusion_jax.datasets.record import Problem
from segfusion_jax.datasets.splits import deal
from segfusion_jax.datasets.table import Part
from segfusion_jax.datasets.table import Row as Row
from segfusion_jax.datasets.unseen import without_seen
from segfusion_jax.runtime import locations
from segfusion_jax.runtime.atomic import write_text
from segfusion_jax.runtime.locks import locked

_log = logging.getLogger(__name__)

_CONTENTS = "contents.csv"
_NAMED = 10
"""Names of what is passed over that the audit lists."""


@dataclasses.dataclass(frozen=True, eq=False)
class Prepared:
    """All images of a run. Can be pickled and read by many threads; nothing is decoded.

    Attributes:
      rows: every image, and in protocol "paper" every copy; `position` says where it is stored.
      source: the record store, a TFDS data source of serialised examples.
    """

    rows: tuple[Row, ...]
    source: Sequence[bytes]

    def read(self, position: int) -> tuple[bytes, bytes]:
        """Returns the encoded image (JPEG or PNG, RGB) and mask (PNG of 0 and 255, or b"" without annotation)."""
        # TFDS would decode every field, which takes as long as decoding a small image does.
        example = tf_example_pb2.Example.FromString(self.source[position])  # pyright: ignore[reportAttributeAccessIssue]
        features = example.features.feature
        return features["image"].bytes_list.value[0], features["mask"].bytes_list.value[0]


def contents(data: config.Data, digests: identity.Digests) -> identity.Contents:
    """Returns what the images are that `data` names; reads those files whose digest is not known."""
    return identity.identify(data, collect(data), digests)


def known_digests(records_folder: pathlib.Path) -> identity.Digests:
    """Returns the digests that are remembered in a folder of record stores."""
    return identity.Digests(records_folder / "digests.csv")


def read_contents(splits_folder: pathlib.Path) -> dict[str, identity.Content]:
    """Returns what the images were when `prepare` stored them, by id; {} where it has not."""
    path = splits_folder / _CONTENTS
    return identity.read(path) if path.exists() else {}


def prepare(
    data: config.Data,
    splits: config.Splits,
    records_folder: pathlib.Path,
    splits_folder: pathlib.Path,
    *,
    download_config: tfds.download.DownloadConfig | None = None,
    for_training: bool = True,
    saw: Mapping[str, Sequence[Part]] | None = None,
    digests: identity.Digests | None = None,
) -> None:
    """Writes the record store, unless it is complete for the same input, and the files of the split.

    Writes `splits.csv` (one `Row` an image), `audit.json`, `problems.csv` (images left out) and `contents.csv`
    (digests) into `splits_folder`. The store is a folder of `records_folder` named after the content of its input, so
    that a new one leaves the old ones alone. One process prepares it at a time; an interrupted one is gone on with.

    Args:
      data: config of what is prepared.
      splits: how it is divided.
      records_folder: folder of the record store.
      splits_folder: folder of the tables.
      download_config: options of TFDS; with a `beam_runner` in it, shards are made on Apache Beam (extra [beam]).
      for_training: whether every split must hold the classes that training and testing need.
      saw: images that models have seen, by what a model is called: they and their relatives take no part.
      digests: those of files that were read already; None = as `known_digests` knows them.

    Raises:
      FileNotFoundError: a folder or table is missing; says where it is published and how to name it.
      ValueError: images cannot be used and `data.on_error` is "raise"; or a split lacks a class; or nothing is
        left that no model saw.
    """
    collection, digests = collect(data), digests or known_digests(records_folder)
    found = identity.identify(data, collection, digests)
    store = records_folder / store_name(found)
    if not (store / "images.csv").exists():  # else nothing is written, so that the folder may be read-only
        with locked(store.with_name(f"{store.name}.lock"), what=f"prepares {data.name}"):
            if not (store / "images.csv").exists():
                _write_store(data, collection, store, splits_folder, download_config)
    rows, problems = table.read_rows(store / "images.csv"), table.read_problems(store / "problems.csv")
    _refuse(problems, data, splits_folder)
    rows, seen, reasons = without_seen(rows, saw or {})
    told_of_seen = _told_of_seen(reasons, len(rows) + len(seen), saw or {})
    if not rows:
        raise ValueError(f"no image is left: {'; '.join(told_of_seen)}. Bring other images, or do without that model")
    targets, told = classes.targets([(row.diagnosis, row.malignant) for row in rows], data)
    rows = [dataclasses.replace(row, target=target) for row, target in zip(rows, targets, strict=True)]
    rows = deal(rows, splits, data.sources, possible=told.possible)
    if for_training:
        judged, kinds = classes.kinds(told, data)
        rows = both_kinds.completed(rows, judged, splits, data.sources)
        own = [row for row in rows if row.source in data.own]
        refuse_indivisible(own, judged, [*collection.read_as, *told_of_seen], kinds)
        _check_classes(rows, told, data, splits)
    rows += seen
    table.write_problems(splits_folder / "problems.csv", problems)
    read = {
        "read_as": list(collection.read_as),
        "passed_over": {
            what: {"count": len(names), "first": list(names[:_NAMED])} for what, names in collection.passed_over.items()
        },
    }
    where = {"records": store.name, "records_folder": str(records_folder.absolute())}
    sides = classes.judged(told, classes.positive(told.classes, data)) if data.own_positive else None
    facts = {**where, "own_split": len(own_split.named(rows)), **read, **audit(rows, problems, told, sides)}
    facts["seen"] = told_of_seen
    facts |= union(rows, collection.merged, data.sources)
    identity.write(splits_folder / _CONTENTS, found)
    digests.save()
    table.write_rows(splits_folder / "splits.csv", rows)
    write_text(splits_folder / "audit.json", json.dumps(facts, indent=2))
    _tell(facts, splits_folder)


def load(records_folder: pathlib.Path, splits_folder: pathlib.Path) -> Prepared:
    """Opens what `prepare` wrote; the record store, where it is not in `records_folder`, in the one that it named.

    Raises:
      FileNotFoundError: it has not been prepared, or the record store is gone.
      ValueError: the table names images that the store does not have.
    """
    facts = read_audit(splits_folder)
    folders = records_folder.absolute(), pathlib.Path(facts.get("records_folder", records_folder))
    stores = [folder / facts["records"] for folder in folders]
    store = next((one for one in stores if (one / "images.csv").exists()), None)
    if store is None:
        places = " nor in ".join(dict.fromkeys(str(one.parent) for one in stores))
        raise FileNotFoundError(
            f"the record store {stores[0].name} that {splits_folder} was made from is not in {places}: name the folder "
            "that holds it as data.records, or prepare again in another workdir"
        )
    rows = read_rows(splits_folder)
    raw = tfds.decode.DeserializeMethod.RAW_BYTES
    source = _reader(store).as_data_source(split=builder.SPLIT, deserialize_method=raw)  # pyright: ignore[reportCallIssue]
    if 1 + max(row.position for row in rows) != len(source):
        raise ValueError(f"{splits_folder / 'splits.csv'} is not of the {len(source)} records in {store}")
    return Prepared(rows, source)


def store_name(contents: identity.Contents) -> str:
    """Returns what the store of these images is called in its folder."""
    return contents.fingerprint[:16]


def read_rows(splits_folder: pathlib.Path) -> tuple[Row, ...]:
    """Returns what `prepare` knows of every image, without opening the record store."""
    return table.read_rows(splits_folder / "splits.csv")


def read_audit(splits_folder: pathlib.Path) -> dict[str, Any]:
    """Returns what `prepare` found, as `audit.audit` returns it, and the name of the record store as `records`.

    Raises:
      FileNotFoundError: nothing has been prepared.
    """
    path = splits_folder / "audit.json"
    if not path.exists():
        raise FileNotFoundError(f"{splits_folder}: no audit.json; run the prepare stage first")
    return json.loads(path.read_text())


def load_dataset(collection: str, root: str = "", records: str = "", **fields: Any) -> Prepared:
    """Prepares a collection where needed, and opens it. Splits may lack a class.

    >>> images = load_dataset("synthetic", records=folder, synthetic_images=40)
    >>> len(images.rows), images.rows[0].image_id
    (40, 'SYN_0000000')
    >>> image, mask = images.read(0)  # encoded as JPEG and as PNG

    Args:
      collection: a name of `config.COLLECTIONS`.
      root: folder or zip of the official files; "" looks in the folders of SEGFUSION_DATA.
      records: folder to keep the prepared data in; "" = <collection>/ in `locations.cache_folder()`.
      **fields: other fields of `config.Data`.

    Raises:
      FileNotFoundError, ValueError: as `prepare`.
    """
    data = config.Data(collection=collection, root=root, records=records, **fields)
    folder = pathlib.Path(records).expanduser() if records else locations.cache_folder() / collection
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"{folder} cannot be written ({error.strerror}): name another folder as records (segfusion evaluate: "
            "--records), or set XDG_CACHE_HOME"
        ) from None
    splits = folder / "splits" / hashlib.sha256(repr(data).encode()).hexdigest()[:16]  # of these fields only
    prepare(data, config.Splits(), folder, splits, for_training=False)
    return load(folder, splits)


def _told_of_seen(reasons: Mapping[str, Mapping[str, int]], total: int, saw: Mapping[str, Sequence[Part]]) -> list[str]:
    """Returns how many images models have seen, and of which models this is not known, in sentences."""
    counted = [
        f"{sum(numbers.values())} of {total} images take no part, since the model of {name} was trained on or chosen "
        f"by them or their relatives ({', '.join(f'{number} {reason}' for reason, number in numbers.items())})"
        for name, numbers in reasons.items()
    ]
    unknown = [name for name, parts in saw.items() if not parts]
    return counted + [
        f"nobody knows what the model of {name} was trained on, since it is a file outside of a released model or a "
        "finished workdir: where it saw these images, the metrics flatter"
        for name in unknown
    ]


def _tell(facts: dict[str, Any], splits_folder: pathlib.Path) -> None:
    if facts["own_split"]:
        _log.info("column split is followed: it places %d images", facts["own_split"])
    parts = (
        f"{name} {counts['images']} images in {counts['groups']} groups ("
        + ", ".join(f"{count} {target}" for target, count in counts["targets"].items() if count)
        + ")"
        for name, counts in facts["splits"].items()
    )
    for sentence in facts["read_as"]:
        _log.info("%s", sentence)
    for sentence in facts["seen"]:
        _log.warning("%s", sentence)
    for what, names in facts["passed_over"].items():
        more = ", ..." if names["count"] > len(names["first"]) else ""
        _log.warning("not read: %d %s: %s%s", names["count"], what, ", ".join(names["first"]), more)
    _log.info("%s", "; ".join(parts))
    if facts["left_out"]:
        left_out = "; ".join(f"{count} x {kind}" for kind, count in facts["left_out"].items())
        _log.warning("left out: %s. They are listed in %s", left_out, splits_folder / "problems.csv")
    if facts["contradictions"]:
        ids = ", ".join(facts["contradictions"][:10])
        _log.warning("%d images contradict equal pictures: %s", len(facts["contradictions"]), ids)
    if facts["lesion_contradictions"]:
        ids = ", ".join(f"{name} {label}" for name, label in list(facts["lesion_contradictions"].items())[:10])
        _log.warning("%d images contradict others of their lesion: %s", len(facts["lesion_contradictions"]), ids)
    shares = facts["relatives_in_training"]
    here, at_random = (shares[split]["any of these"] for split in ("this_split", "random_split"))
    tell = _log.warning if facts["leaking"] else _log.info
    tell(
        "of %d test images that are classified %.1f %% have relatives in training or validation; at random %.1f %%",
        facts["classified_tests"],
        100 * here,
        100 * at_random,
    )
    if not any(facts["known"].values()):
        _log.warning(
            "no lesion or patient is known of any image: only equal and nearly equal pictures are known to be relatives"
        )


def _write_store(
    data: config.Data,
    contents: Collection,
    store: pathlib.Path,
    splits_folder: pathlib.Path,
    download_config: tfds.download.DownloadConfig | None,
) -> None:
    """Writes the records, by TFDS, and the tables of what they are; `images.csv` last."""
    if not contents.records:
        _refuse(contents.problems, data, splits_folder)
        raise ValueError(f"collection {data.name!r} has no image")
    tfds.disable_progress_bar()
    made = builder.Builder(data, contents=contents, finished=store.parent / "finished_shards", data_dir=store)
    shutil.rmtree(store, ignore_errors=True)  # of a run that was stopped before images.csv
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS announces itself by print
            made.download_and_prepare(download_config=download_config)
    except UnusableImages as error:
        _refuse(error.problems, data, splits_folder)
    skip = {"image": tfds.decode.SkipDecoding()}
    source = _reader(store).as_data_source(split=builder.SPLIT, decoders=skip)  # pyright: ignore[reportCallIssue]
    rows, cuts = [], []
    for position, example in enumerate(source):
        rows.append(_row(position, example))
        cuts.append(bytes.fromhex(example["cut_hashes"].decode()))
    table.write_problems(store / "problems.csv", made.problems)
    table.write_rows(store / "images.csv", joined(rows, contents.duplicate_pairs, contents.lesion_pairs, cuts))
    made.forget_shards()
    _log.info("%d images of %s stored in %s", len(rows), data.name, store)


def _refuse(problems: Sequence[Problem], data: config.Data, splits_folder: pathlib.Path) -> None:
    if problems and data.on_error == "raise":
        table.write_problems(splits_folder / "problems.csv", problems)
        raise UnusableImages(problems, listed_in=str(splits_folder / "problems.csv")) from None


def _reader(store: pathlib.Path) -> tfds.core.DatasetBuilder:
    (features,) = store.glob("*/*/features.json")
    return tfds.builder_from_directory(features.parent)


def _row(position: int, example: dict[str, Any]) -> Row:
    facts = {name: value for name, value in example.items() if name not in ("image", "mask", "cut_hashes")}
    plain: dict[str, Any] = {
        name: value.decode() if isinstance(value, bytes) else np.asarray(value).item() for name, value in facts.items()
    }
    return Row(position=position, has_mask=bool(example["mask"]), **plain)


def _check_classes(rows: Sequence[Row], told: classes.Told, data: config.Data, splits: config.Splits) -> None:
    """Checks that train has all classes, and each other split images of all kinds to be measured on."""
    judged, kinds = classes.kinds(told, data)
    for name in ("train", "validation", "test"):
        targets = [row.target for row in rows if row.split == name and row.source in data.own]
        found = {judged[target] for target in targets if target >= 0} - {-1}
        if len(found) < len(kinds) or (name == "train" and not set(range(len(told.classes))) <= set(targets)):
            counts = ", ".join(f"{targets.count(number)} {label}" for number, label in enumerate(told.labels))
            needed = "all classes" if name == "train" or kinds == told.classes else "benign and malignant classes"
            remedy = f"Change splits.seed = {splits.seed} or the fractions, or bring more images."
            if own_split.named(rows):
                remedy = "So says the column split: name more images there, or leave it empty where any may go."
            raise ValueError(f"split {name!r} of {data.name} has {counts} images; it needs {needed}. {remedy}")
