"""What a page gives away of the people whose pictures it is about, said at its end, and a page without the pictures."""

from collections.abc import Iterable, Sequence

from segfusion_jax.report import figures
from segfusion_jax.report.blocks import Facts, Figure, Section, Table

_IDS = ("Image", "Group")  # headings of the columns of tables that name images


def without_photographs(sections: Iterable[Section]) -> list[Section]:
    """Returns the sections without the figures in which a patient's skin is seen, or that nobody knows."""
    return [
        Section(one.title, [block for block in one.blocks if not _is_photograph(block)], one.intro) for one in sections
    ]


def disclosure(sections: Sequence[Section], *, pseudonyms: str) -> Section:
    """Makes the last section of a page, of what the others hold.

    Args:
      sections: the others.
      pseudonyms: name of the file that says which id each number stands for; "" where ids are as the data have them.
    """
    blocks = [block for section in sections for block in section.blocks]
    shown = [block.title for block in blocks if isinstance(block, Figure) and _is_photograph(block)]
    named = sum(len(block.rows) for block in blocks if isinstance(block, Table) and block.headings[0] in _IDS)
    unread = any(isinstance(block, Table) and block.title == "What was not read" for block in blocks)
    kept = f"numbers; which is whose says {pseudonyms}, which is kept apart and must stay there" if pseudonyms else ""
    told = "as the data have them, in tables, warnings and above the pictures" if shown else "as the data have them"
    facts = {
        "Pictures of patients": f"{len(shown)} figures: {', '.join(shown)}" if shown else "none",
        "Ids of images and groups": kept or (told if named or shown else "none in a table"),
        "Names of files": "of what was not read, in section Data" if unread and not pseudonyms else "none",
        "Facts of patients": "counts, metrics and distributions"
        + ("; of images in tables of failures: label, probability, overlap" if named else ""),
        "The machine": "its devices and versions of software; no path and no user's name",
    }
    return Section("What this page contains", [Facts(facts)])


def _is_photograph(block: object) -> bool:
    return isinstance(block, Figure) and figures.shows_patients(block.path)
