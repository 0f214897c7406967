"""Parts of few images: each has both kinds, what is looked for and what is not, or all of somebody's own classes, and
masks in more than one fold, where there are enough groups.
"""

import collections
import dataclasses
import itertools
from collections.abc import Mapping, Sequence

from segfusion_jax import config
from segfusion_jax.datasets import own_split
from segfusion_jax.datasets.splits import drawn_fold
from segfusion_jax.datasets.table import Row

_PARTS = ("test", "validation", "train")


def completed(
    rows: Sequence[Row], judged: Sequence[int], splits: config.Splits, sources: Mapping[str, config.Source]
) -> list[Row]:
    """Returns dealt rows, of which a group is moved where a part has none of a kind and another part several.

    Shares of few images come to none; nothing is moved that a table, or the publisher, has placed, nor where every part
    has all kinds. Where the masks of a part are all in one fold, a group of it goes to the next fold: the U-Net that
    never meets that fold would have none.

    Args:
      rows: the images, as `splits.deal` returns them.
      judged: the kind of each target, as of `classes.kinds`; -1 where it does not say.
      splits: how they were dealt.
      sources: the collections by name.
    """
    if splits.protocol != "grouped" or splits.table or own_split.named(rows):
        return list(rows)
    groups: dict[str, list[Row]] = collections.defaultdict(list)
    for row in rows:
        if row.split in _PARTS:
            groups[row.group].append(row)
    free = {row.group for row in rows if row.split in _PARTS}
    free -= {row.group for row in rows if row.partition == "test" or sources[row.source].use != "all"}
    deal = _Deal({name: members[0].split for name, members in groups.items()}, groups, judged)
    for part, kind in itertools.product(_PARTS[splits.official_test :], sorted({*judged} - {-1})):
        able = [name for name in sorted(free) if deal.can_lend(name, kind)] if not deal.having(part, kind) else []
        if able:
            size = {name: (len(deal.having(deal.parts[name], kind)), -len(groups[name])) for name in able}
            deal.parts[max(able, key=size.__getitem__)] = part
    moved = [_moved(row, deal.parts[row.group], splits) if row.split in _PARTS else row for row in rows]
    for part in ("validation", "train"):
        folds = {row.group: row.fold for row in moved if row.split == part and row.has_mask}
        if len(folds) > 1 and len({*folds.values()}) == 1 and (able := sorted(folds.keys() & free)):
            fold = (folds[able[0]] + 1) % splits.num_folds
            moved = [dataclasses.replace(row, fold=fold) if row.group == able[0] else row for row in moved]
    return moved


@dataclasses.dataclass
class _Deal:
    """The part of each group.

    Attributes:
      parts: by group.
      groups: their images.
      judged: as above.
    """

    parts: dict[str, str]
    groups: Mapping[str, Sequence[Row]]
    judged: Sequence[int]

    def kinds(self, name: str) -> set[int]:
        """Returns the kinds of a group's images."""
        return {int(self.judged[row.target]) for row in self.groups[name] if row.target >= 0} - {-1}

    def having(self, part: str, kind: int) -> list[str]:
        """Returns the groups of a part that have a kind."""
        return [name for name in self.parts if self.parts[name] == part and kind in self.kinds(name)]

    def can_lend(self, name: str, kind: int) -> bool:
        """Returns whether a group has a kind and its part others of all its kinds; train, of all its classes."""
        part = self.parts[name]
        if kind not in self.kinds(name) or any(len(self.having(part, one)) < 2 for one in self.kinds(name)):
            return False
        others = [other for other in self.groups if other != name and self.parts[other] == part]
        left = {row.target for other in others for row in self.groups[other]}
        return part != "train" or {row.target for row in self.groups[name]} <= left


def _moved(row: Row, part: str, splits: config.Splits) -> Row:
    if row.split == part:
        return row
    fold = -1 if part == "test" else row.fold if row.fold >= 0 else drawn_fold(row.group, splits)
    return dataclasses.replace(row, split=part, fold=fold)
