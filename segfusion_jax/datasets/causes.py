"""Why images cannot be divided among training, validation and test, told by the earliest cause that is known."""

from collections.abc import Sequence

from segfusion_jax.datasets.table import Row

PARTS = 3
"""Training, validation and test: each needs a group of each kind."""


def refuse_indivisible(
    rows: Sequence[Row], judged: Sequence[int], read_as: Sequence[str], names: Sequence[str]
) -> None:
    """Refuses images of which no seed could make three parts.

    Args:
      rows: the images of a run's own collection, joined to groups.
      judged: the kind of each target, as of `classes.kinds`; -1 where it does not say.
      read_as: how the images were read, in sentences.
      names: what the kinds are called.

    Raises:
      ValueError: no image has a label, all are of one kind, or a kind has fewer groups than there are parts.
    """
    labelled = [row for row in rows if row.target >= 0 and row.partition != "test"]
    how = "".join(f"\n  {sentence}" for sentence in read_as)
    if not labelled:
        raise ValueError(
            f"none of the {len(rows)} images has a label. Name the column that holds it 'label', or in a labels.toml "
            f"([columns] label = \"NAME\"); 'segfusion check FOLDER' tells what is read.{how}"
        )
    kinds = {name: [row for row in labelled if judged[row.target] == kind] for kind, name in enumerate(names)}
    for name, members in kinds.items():
        others = ", ".join(f"{len(some)} {other}" for other, some in kinds.items() if other != name)
        if not members:
            needed = "both kinds" if len(kinds) == 2 else "all kinds"
            raise ValueError(f"no image is {name}, {others}: {needed} are needed, to learn from and to test on.{how}")
        groups = {row.group for row in members}
        if len(groups) < PARTS:
            which = ", ".join(_told(sorted(groups), members))
            many = "1 group" if len(groups) == 1 else f"{len(groups)} groups"
            raise ValueError(
                f"the {len(members)} {name} images are of {many} ({which}). A group is the images of one patient, "
                "lesion or picture and is never parted, and training, validation and test need one each of every kind: "
                f"bring images of more patients.{how}"
            )


def _told(groups: Sequence[str], members: Sequence[Row]) -> list[str]:
    """Returns what joins each group."""
    told = []
    for group in groups:
        some = [row for row in members if row.group == group]
        patients, lesions = ({getattr(row, name) for row in some} - {""} for name in ("patient_id", "lesion_id"))
        named = [f"patient {name}" for name in sorted(patients)[:1]] or [
            f"lesion {name}" for name in sorted(lesions)[:1]
        ]
        told.append(f"{len(some)} of {(named or [f'the picture {group}'])[0]}")
    return told
