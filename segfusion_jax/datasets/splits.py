"""Images that belong together (groups), and the dealing of groups to test, validation and cross-fitting folds.

A group's place is a hash of the seed and its name. In each stratum (collections, class) the groups whose hash is below
a cut are chosen. The cut is the share that is wanted or, where chance would miss that share by more than a tenth, the
simplest binary fraction that does not: so strata are divided evenly, and adding images hardly ever moves others. With
an earlier table none moves.
"""

import collections
import dataclasses
import hashlib
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from segfusion_jax import config
from segfusion_jax.datasets import own_split, taxonomy
from segfusion_jax.datasets.collections import official
from segfusion_jax.datasets.components import components
from segfusion_jax.datasets.cuts import cut_pairs
from segfusion_jax.datasets.files import DiskFile
from segfusion_jax.datasets.near_duplicates import near_duplicates
from segfusion_jax.datasets.table import Row
from segfusion_jax.runtime import sinks

PAPER_COPIES = 10
"""Augmented copies that the paper's code makes of every image before it splits them."""

_SPLITS = ("train", "validation", "test", "official_test", "unused")
_TOLERANCE = 0.1  # of a part


def joined(
    rows: Sequence[Row],
    duplicate_pairs: Iterable[tuple[str, str]] = (),
    lesion_pairs: Iterable[tuple[str, str]] = (),
    cuts: Sequence[bytes] | None = None,
) -> list[Row]:
    """Returns the rows with `picture`, `lookalike`, `cut` and `group`.

    Rows show the same picture if their content or their image id is equal (an ISIC 2019 `_downsampled` id counts as its
    original's) or if they are published as duplicates. They look alike if `near_duplicates` says so. They are
    cuts if `cut_pairs` does. They are of one group if a chain of equal pictures, looks, cuts, lesions or patients joins
    them. Unknown ids ("") join nothing.

    Args:
      rows: all images.
      duplicate_pairs: image ids that show the same picture; ids that no row has are passed over.
      lesion_pairs: image ids that are published as showing the same lesion.
      cuts: the `cut_hashes` of each row; None: no image is looked for in the middle of another.
    """
    place = {row.image_id: number for number, row in enumerate(rows)}
    published, same_lesion = (
        [(place[first], place[second]) for first, second in pairs if {first, second} <= place.keys()]
        for pairs in (duplicate_pairs, lesion_pairs)
    )
    same = _alike([row.sha256 for row in rows]) + _alike([row.image_id.removesuffix("_downsampled") for row in rows])
    looks = [bytes.fromhex(row.perceptual_hash) for row in rows]
    near, cut = near_duplicates(looks), cut_pairs(looks, cuts) if cuts else []
    related = _alike([row.lesion_id for row in rows]) + _alike([row.patient_id for row in rows]) + same_lesion
    ids = [row.image_id for row in rows]
    pictures, lookalikes = _clusters(ids, same + published), _clusters(ids, near)
    groups = _clusters(ids, same + published + near + cut + related)
    return [
        dataclasses.replace(row, picture=picture, lookalike=lookalike, cut=cut, group=group)
        for row, picture, lookalike, cut, group in zip(
            rows, pictures, lookalikes, _clusters(ids, cut), groups, strict=True
        )
    ]


def deal(
    rows: Sequence[Row],
    splits: config.Splits,
    sources: Mapping[str, config.Source] | None = None,
    *,
    possible: np.ndarray | None = None,
) -> list[Row]:
    """Returns the rows with `split` and `fold`, by `splits.protocol`; in protocol "paper" there are more of them.

    With `splits.pool`, and in protocol "paper", equally many images of each class take part, the same in all protocols;
    the rest are "unused".

    "grouped": no group parts. Of images that show the same picture one takes part (two, if one brings the target and
    one the mask), and none if their targets contradict each other. A group that has images of an official test set, or
    of a collection for tests only, lends no others: they are "unused". Images of a collection for training only are in
    "train", with their whole group where no others are in it; and "unused" where their group has its place elsewhere.
    "by_image": images are dealt one by one, as many papers do. "paper": so are PAPER_COPIES augmented copies of each.
    The latter two leak. Official test sets stay apart in all of them. A split that the user's own images bring along is
    followed, see `own_split`.

    Args:
      rows: rows as `joined` returns them, with targets.
      splits: fractions are of the images of each stratum.
      sources: the collections by name, of which `use` counts; none: all are for all splits.
      possible: as in `classes.Told`; None where no target leaves several classes possible.

    Raises:
      ValueError: `splits.table`, or the images' own split, cannot be followed, or the table has images of a
        collection elsewhere than they may be; says why.
    """
    uses = {name: source.use for name, source in (sources or {}).items()}
    possible = np.eye(1 + max((row.target for row in rows), default=-1), dtype=bool) if possible is None else possible
    if own_split.named(rows) or (not splits.pool and splits.protocol != "paper"):
        return _by_protocol(rows, splits, uses, possible)
    pool = _pool(rows, splits.pool or len(rows), splits.seed, possible)
    pool |= {row.image_id for row in rows if row.partition == "test" or uses.get(row.source) == "test"}
    rest = [_placed(row, ("unused", -1)) for row in rows if row.image_id not in pool]
    return _by_protocol([row for row in rows if row.image_id in pool], splits, uses, possible) + rest


def _pool(rows: Sequence[Row], size: int, seed: int, possible: np.ndarray) -> set[str]:
    """Returns the ids of `size` images of each class of each collection, or of as many as its rarest class has.

    They are those of the first groups in the order of a hash; the last of these may lend some only. An official test
    set lends none, and of images of one picture there is one.
    """
    spare, classes = _spare(rows, possible), collections.defaultdict(list)
    for row in rows:
        if row.partition != "test" and row.image_id not in spare:
            classes[row.source, row.target].append(row)
    pool = set()
    for (source, _), members in classes.items():
        labelled = [len(others) for (name, target), others in classes.items() if name == source and target >= 0]
        order = sorted(members, key=lambda row: (_uniform(f"{seed}/pool", row.group), row.image_id))
        pool |= {row.image_id for row in order[: min([size, *labelled])]}
    return pool


def _by_protocol(
    rows: Sequence[Row], splits: config.Splits, uses: Mapping[str, str], possible: np.ndarray
) -> list[Row]:
    if splits.protocol == "grouped" or own_split.named(rows):
        return _grouped(rows, splits, uses, possible)
    if splits.protocol == "paper":
        rows = [
            dataclasses.replace(row, image_id=f"{row.image_id}~{copy}", copy=copy)
            for row in rows
            for copy in range(1, PAPER_COPIES + 1)
        ]
    places = dict.fromkeys((row.image_id for row in rows), ("official_test", -1))
    test_fraction = 0.0 if splits.official_test else splits.test_fraction
    rest = {row.image_id: [row] for row in rows if row.partition != "test"}
    places |= _dealt(rest, splits, test_fraction, splits.validation_fraction)
    return [_placed(row, places[row.image_id]) for row in rows]


def find_table(splits: config.Splits) -> pathlib.Path:
    """Returns the path of the file `splits.table`.

    Raises:
      FileNotFoundError: it is not there.
    """
    path = pathlib.Path(splits.table).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"splits.table = {splits.table!r}: no such file")
    return path


def _grouped(rows: Sequence[Row], splits: config.Splits, uses: Mapping[str, str], possible: np.ndarray) -> list[Row]:
    earlier = _read_table(splits) if splits.table else {}
    if earlier and earlier.keys().isdisjoint(row.image_id for row in rows):
        raise ValueError(
            f"splits.table = {splits.table!r} has none of the images; an id of it is {next(iter(earlier))!r}"
        )
    left_out = {image_id for image_id, (split, _) in earlier.items() if split == "unused"}
    own = own_split.named(rows)
    left_out |= {image_id for image_id, part in own.items() if part == "unused"}
    spare = left_out | (_spare((row for row in rows if row.image_id not in left_out), possible) - own.keys())
    groups: dict[str, list[Row]] = collections.defaultdict(list)
    for row in rows:
        groups[row.group].append(row)
    wanted = {"test": splits.test_fraction, "validation": splits.validation_fraction}
    fractions = [0.0 if part in own.values() else fraction for part, fraction in wanted.items()]
    kept = _kept(groups, earlier, splits)
    tested = {row.group for row in rows if uses.get(row.source) == "test"}
    apart = {row.group for row in rows if row.partition == "test" and row.image_id not in own} - tested
    if own:
        followed = own_split.places(groups, splits, _dealt(groups, splits, 0.0, fractions[1]), possible)
        kept = {name: place for name, place in followed.items() if name not in apart | tested}
    only_trained = {name for name, members in groups.items() if {uses.get(row.source) for row in members} == {"train"}}
    free = {name: members for name, members in groups.items() if name not in {*kept, *apart, *tested, *only_trained}}
    places = dict.fromkeys(apart, ("test" if splits.official_test else "official_test", -1))
    places |= dict.fromkeys(tested, ("test", -1))
    places |= {name: ("train", drawn_fold(name, splits)) for name in only_trained - apart - tested}
    places |= _dealt(free, splits, 0.0 if splits.official_test else fractions[0], fractions[1]) | kept

    def place(row: Row) -> tuple[str, int]:
        use, split = uses.get(row.source, "all"), places[row.group][0]
        lent = row.image_id not in earlier and (
            (row.group in tested and use != "test")
            or (row.group in apart and split in ("test", "official_test") and row.partition != "test")
            or (use == "train" and split != "train")
        )
        return ("unused", -1) if lent or row.image_id in spare else places[row.group]

    placed = [_placed(row, place(row)) for row in rows]
    _check_uses(placed, tested, uses)
    return placed


def _check_uses(rows: Sequence[Row], tested: set[str], uses: Mapping[str, str]) -> None:
    """Checks that an earlier table puts no image where its collection, or one that it is joined with, may not be."""
    for row in rows:
        seen = row.split in ("train", "validation")
        if (seen and row.group in tested) or (uses.get(row.source) == "train" and row.split not in ("train", "unused")):
            use = "test" if row.group in tested else "train"
            raise ValueError(f"splits.table has {row.image_id} in {row.split}; it, or its group, is for {use} only")


def _dealt(
    groups: Mapping[str, Sequence[Row]], splits: config.Splits, test_fraction: float, validation_fraction: float
) -> dict[str, tuple[str, int]]:
    """Returns split and fold of each group, dealt in each stratum by the hash of the group's name."""
    strata: dict[tuple, list[str]] = collections.defaultdict(list)
    for name, members in groups.items():
        strata[_stratum(members)].append(name)
    places = {}
    for names in strata.values():
        sizes = {name: len(groups[name]) for name in names}
        test = _chosen(sizes, test_fraction, f"{splits.seed}/split", part=test_fraction)
        pool = {name: size for name, size in sizes.items() if name not in test}
        share = validation_fraction / (1 - test_fraction)
        validation = _chosen(pool, share, f"{splits.seed}/validation", part=share)
        places |= dict.fromkeys(test, ("test", -1))
        for fold in reversed(range(splits.num_folds)):
            share = (fold + 1) / splits.num_folds
            members = _chosen(pool, share, f"{splits.seed}/fold", part=1 / splits.num_folds)
            places |= {name: ("validation" if name in validation else "train", fold) for name in members}
    return places


def _stratum(members: Sequence[Row]) -> tuple:
    """Returns the stratum of a group, of which each split gets its share: its collections, target and diagnosis."""
    sources = tuple(sorted({row.source for row in members}))
    diagnoses = {taxonomy.common(row.diagnosis) for row in members}
    target = max(row.target for row in members)
    return sources, target, diagnoses.pop() if len(diagnoses) == 1 else "", any(row.has_mask for row in members)


def _chosen(sizes: Mapping[str, int], share: float, purpose: str, *, part: float) -> set[str]:
    """Groups with about `share` of the images, to a tenth of `part`: those whose hash is below a cut."""
    if not sizes or share <= 0:
        return set()
    if share >= 1:
        return set(sizes)
    places = {name: _uniform(purpose, name) for name in sizes}
    order = sorted(places, key=places.__getitem__)
    images = np.cumsum([sizes[name] for name in order])
    cut = _cut([places[name] for name in order], images, share, slack=_TOLERANCE * part * images[-1])
    return {name for name in order if places[name] < cut}


def _cut(places: Sequence[float], images: np.ndarray, share: float, *, slack: float) -> float:
    """Returns where to cut sorted `places`, up to each of which `images` are counted, so that `share` of them lie
    below.
    """
    missed = np.abs(np.concatenate([[0], images]) - share * images[-1])
    good = np.flatnonzero(missed <= max(slack, missed.min()))
    low = places[good[0] - 1] if good[0] else 0.0
    high = places[good[-1]] if good[-1] < len(places) else 1.0
    if low < share <= high:
        return share
    for bits in range(1, 64):
        fraction = (np.floor(low * 2**bits) + 1) / 2**bits
        if fraction <= high:
            return float(fraction)
    return high


def _uniform(purpose: str, name: str) -> float:
    """Returns a number in [0, 1) that depends on the arguments only."""
    digest = hashlib.sha256(f"{purpose}/{name}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def contradicting(rows: Iterable[Row], possible: np.ndarray) -> bool:
    """Returns whether no class is possible by the targets of all rows; `possible` is as in `classes.Told`."""
    targets = sorted({row.target for row in rows} - {-1})
    return len(targets) > 1 and not possible[targets].all(axis=0).any()


def _spare(rows: Iterable[Row], possible: np.ndarray) -> set[str]:
    """Returns ids of the images that others of the same picture stand for, or that contradict one of those."""
    pictures: dict[str, list[Row]] = collections.defaultdict(list)
    for row in rows:
        pictures[row.picture].append(row)
    spare = set()
    for members in pictures.values():
        needed = set() if contradicting(members, possible) else _needed(members, possible)
        spare |= {row.image_id for row in members} - needed
    return spare


def _needed(members: Sequence[Row], possible: np.ndarray) -> set[str]:
    """Returns, of the images of one picture, that of the finest target and, where it has no mask, one that has."""

    def worth(row: Row) -> tuple:
        fineness = -possible[row.target].sum() if row.target >= 0 else -np.inf
        return fineness, row.partition == "test", row.has_mask, row.file_bytes

    best = max(members, key=worth)
    masked = [] if best.has_mask else [row for row in members if row.has_mask]
    return {best.image_id, *(row.image_id for row in masked[:1])}


def _kept(
    groups: Mapping[str, Sequence[Row]], earlier: Mapping[str, tuple[str, int]], splits: config.Splits
) -> dict[str, tuple[str, int]]:
    """Returns split and fold of the groups of which `earlier`, read from `splits.table`, has images."""
    kept = {}
    for name, members in groups.items():
        named = {row.image_id: earlier[row.image_id] for row in members if row.image_id in earlier}
        places = set(named.values()) - {("unused", -1)}
        if len(places) > 1:
            listed = ", ".join(f"{image_id} in {split}, fold {fold}" for image_id, (split, fold) in named.items())
            raise ValueError(
                f"splits.table = {splits.table!r} parts one lesion, patient or picture: {listed}. "
                "Give all of them the same split there, or 'unused' to those that shall take no part"
            )
        for split, fold in places:
            unfolded = split in ("train", "validation") and fold < 0
            kept[name] = (split, drawn_fold(name, splits) if unfolded else fold)
    return kept


def drawn_fold(name: str, splits: config.Splits) -> int:
    """Returns the fold of a group that is not dealt with others."""
    return int(_uniform(f"{splits.seed}/fold", name) * splits.num_folds)


def _read_table(splits: config.Splits) -> dict[str, tuple[str, int]]:
    """Reads split and fold (-1 = not said, or outside train and validation) of each image of `splits.table`."""
    path, places = find_table(splits), {}
    for line in official.rows(DiskFile(path, path.stat().st_size), ("image_id", "split"), optional=("fold",)):
        image_id, split, fold = sinks.plain(line["image_id"]), line["split"].lower(), line.get("fold", "")
        split = "validation" if split == "val" else split
        if not image_id or split not in _SPLITS or (fold or "-1") not in map(str, range(-1, splits.num_folds)):
            accepted = f"an image_id, a split of {', '.join(_SPLITS)}, a fold below {splits.num_folds} or none"
            raise ValueError(f"splits.table = {splits.table!r} has the row {line}; it must have {accepted}")
        place = split, int(fold or -1) if split in ("train", "validation") else -1
        if places.setdefault(image_id, place) != place:
            raise ValueError(f"splits.table = {splits.table!r} has {image_id} in {places[image_id]} and in {place}")
    return places


def _placed(row: Row, place: tuple[str, int]) -> Row:
    return dataclasses.replace(row, split=place[0], fold=place[1])


def _alike(names: Sequence[str]) -> list[tuple[int, int]]:
    """Links that join the places of each name; "" joins nothing."""
    first: dict[str, int] = {}
    return [(first.setdefault(name, place), place) for place, name in enumerate(names) if name]


def _clusters(ids: Sequence[str], links: Sequence[tuple[int, int]]) -> list[str]:
    """Returns the smallest id in the connected component of each place."""
    labels = components(links, len(ids))
    names: dict[int, str] = {}
    for label, image_id in zip(labels.tolist(), ids, strict=True):
        names[label] = min(names.get(label, image_id), image_id)
    return [names[label] for label in labels.tolist()]
