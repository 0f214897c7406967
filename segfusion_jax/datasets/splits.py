"""The dealing of groups (images that belong together) to test, validation and cross-fitting folds.

A group's place is a hash of the seed and its name. In each stratum (collections, class) the groups whose hash is below
a cut are chosen. The cut is the share that is wanted or, where chance would miss that share by more than a tenth, the
simplest binary fraction that does not: so strata are divided evenly, and adding images hardly ever moves others. With
an earlier table none moves.
"""

import collections
import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from segfusion_jax import config
from segfusion_jax.datasets import earlier_split, own_split, taxonomy
from segfusion_jax.datasets.table import Row

PAPER_COPIES = 10
"""Augmented copies that the paper's code makes of every image before it splits them."""

_TOLERANCE = 0.1  # of a part


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
      rows: rows as `groups.joined` returns them, with targets.
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


def _grouped(rows: Sequence[Row], splits: config.Splits, uses: Mapping[str, str], possible: np.ndarray) -> list[Row]:
    earlier = earlier_split.read(rows, splits)
    left_out = {image_id for image_id, (split, _) in earlier.items() if split == "unused"}
    own = own_split.named(rows)
    left_out |= {image_id for image_id, part in own.items() if part == "unused"}
    spare = left_out | (_spare((row for row in rows if row.image_id not in left_out), possible) - own.keys())
    groups: dict[str, list[Row]] = collections.defaultdict(list)
    for row in rows:
        groups[row.group].append(row)
    wanted = {"test": splits.test_fraction, "validation": splits.validation_fraction}
    fractions = [0.0 if part in own.values() else fraction for part, fraction in wanted.items()]
    kept = {
        name: (split, drawn_fold(name, splits) if split in ("train", "validation") and fold < 0 else fold)
        for name, (split, fold) in earlier_split.kept(groups, earlier, splits).items()
    }
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


def drawn_fold(name: str, splits: config.Splits) -> int:
    """Returns the fold of a group that is not dealt with others."""
    return int(_uniform(f"{splits.seed}/fold", name) * splits.num_folds)


def _placed(row: Row, place: tuple[str, int]) -> Row:
    return dataclasses.replace(row, split=place[0], fold=place[1])
