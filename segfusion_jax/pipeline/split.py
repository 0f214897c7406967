"""Which images train each network, choose its weights, and test it."""

from collections.abc import Sequence

import numpy as np

from segfusion_jax.config import Config
from segfusion_jax.datasets.table import Row


class Split:
    """What the prepared images are for.

    Args:
      config: config of the run.
      rows: the images, as they were dealt.
    """

    def __init__(self, config: Config, rows: Sequence[Row]):
        self._config = config
        self._rows = rows

    def unet(self) -> tuple[dict[int, tuple[Row, ...]], dict[int, tuple[Row, ...]]]:
        """Returns the images that train each U-Net and those that choose its weights, by the fold that it never meets.

        They are the annotated ones of the splits 'train' and 'validation', without the fold. Where nothing is annotated
        and `bridge.mode` is "none", so that the classifier sees whole images, there is no U-Net; nor where a released
        model's make the masks.

        Raises:
          ValueError: a U-Net has none of the one or the other.
        """
        if not self.has_unets:
            return {}, {}
        folds = range(self._config.splits.num_folds)
        annotated = {
            split: [row for row in self._rows if row.has_mask and row.split == split]
            for split in ("train", "validation")
        }
        train, choose = (
            {fold: tuple(row for row in rows if row.fold != fold) for fold in folds} for rows in annotated.values()
        )
        if not any(annotated.values()):
            raise ValueError(
                f"none of the {len(self._rows)} images has an annotated mask, without some of which no U-Net can be "
                "trained. --set bridge.mode=none trains a classifier of whole images alone; --set bridge.masks=MODEL "
                "takes the U-Nets of a released model, such as released/ham10000; "
                "--set data.collections.NAME.use=masks takes those of another collection"
            )
        for fold in folds:
            if not train[fold] or not choose[fold]:
                raise ValueError(
                    f"outside fold {fold} there are {len(train[fold])} training and {len(choose[fold])} validation "
                    "images with an annotated mask, of each at least 1 is needed: try another "
                    "splits.seed or bring more; a collection of config.data.collections can bring them"
                )
        return train, choose

    def check_classes(self, judged: Sequence[int], kinds: Sequence[str]) -> None:
        """Checks that every classifier can be trained and chosen, so that none is found out after others are trained.

        Args:
          judged: the kind of each target, as of `classes.kinds`; -1 where its label does not say.
          kinds: what they are called.

        Raises:
          ValueError: says what is missing, how many there are, and what can be done.
        """
        config = self._config
        remedy = f"another splits.seed than {config.splits.seed}, or more images"
        if config.classifier.fold_ensemble:
            remedy = f"classifier.fold_ensemble=False, {remedy}"
        for (number, chosen), trained in zip(self.validation, self.training, strict=True):
            for what, rows in (("trained", trained), ("chosen", chosen)):
                found = [int(judged[row.target]) for row in rows]
                if not {*range(len(kinds))} <= {*found}:
                    counts = " and ".join(f"{found.count(kind)} {name}" for kind, name in enumerate(kinds))
                    raise ValueError(
                        f"the images that classifier {number} is {what} on are {counts}, of each at least 1 is needed: "
                        f"try {remedy}"
                    )

    def check_masks(self) -> None:
        """Checks that there are the annotated masks that are needed, before a network is trained.

        Raises:
          ValueError: says which are missing, how many there are, and what can be done.
        """
        self.unet()
        bare = [row.image_id for row in self.masked if not row.has_mask]
        if self._config.bridge.masks == "annotated" and bare:
            raise ValueError(
                f"config.bridge.masks = 'annotated': {len(bare)} of {len(self.masked)} images have no annotated mask, "
                f"such as {', '.join(bare[:5])}; 'predicted' needs none"
            )

    @property
    def masked(self) -> tuple[Row, ...]:
        """The images of the run's own collections that get a mask."""
        used = ("train", "validation", "test")
        return tuple(row for row in self._rows if row.source in self._config.data.own and row.split in used)

    @property
    def has_unets(self) -> bool:
        """Whether U-Nets are trained: somebody has drawn masks, or the classifier needs some; none has them ready."""
        if self._config.bridge.released:
            return False
        return self._config.bridge.mode != "none" or any(
            row.has_mask and row.split in ("train", "validation") for row in self._rows
        )

    @property
    def training(self) -> list[tuple[Row, ...]]:
        """The images that train each classifier."""
        if not self._config.classifier.fold_ensemble:
            return [self.classified("train")]
        rows = self.classified("train", "validation")
        return [tuple(row for row in rows if row.fold != fold) for fold in range(self._config.splits.num_folds)]

    @property
    def validation(self) -> list[tuple[int, tuple[Row, ...]]]:
        """The number of each classifier, and the images that choose its weights: it never saw their groups.

        Temperature and thresholds are fitted on them too. Those of an ensemble are together all that are not in 'test'.
        """
        if not self._config.classifier.fold_ensemble:
            return [(0, self.classified("validation"))]
        rows = self.classified("train", "validation")
        folds = range(self._config.splits.num_folds)
        judged = [row for row in rows if self._config.data.sources[row.source].use != "train"]
        return [(fold, tuple(row for row in judged if row.fold == fold)) for fold in folds]

    def classified(self, *splits: str) -> tuple[Row, ...]:
        """Returns the labelled images in some of 'train', 'validation' and 'test', without those that are for masks."""
        own = (row for row in self._rows if row.source in self._config.data.own)
        return tuple(row for row in own if row.split in splits and row.target >= 0)

    @property
    def annotated_test(self) -> tuple[Row, ...]:
        """The test images whose predicted masks can be scored."""
        return tuple(row for row in self._rows if row.split == "test" and row.has_mask)


def evenly_spaced(rows: Sequence[Row], most: int) -> tuple[Row, ...]:
    """Returns at most `most` of `rows`, evenly spaced; 0 means all."""
    if not most or len(rows) <= most:
        return tuple(rows)
    return tuple(rows[place] for place in np.linspace(0, len(rows) - 1, most).astype(int))
