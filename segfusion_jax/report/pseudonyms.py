"""Numbers in place of ids, on pages that are shown to others; the key is a file that stays where it is."""

import dataclasses
import pathlib
import random
from collections.abc import Iterable, Mapping

from segfusion_jax.report.finished_run import FinishedRun
from segfusion_jax.runtime import regular
from segfusion_jax.runtime.atomic import read_table, write_table
from segfusion_jax.runtime.locks import locked

_COLUMNS = ("number", "id")
_BYTES = 1 << 28


class Key:
    """The numbers that stand for ids, in a table that its owner alone may read. One key may serve several pages.

    Args:
      path: the table, which need not be there yet; an id that is in it keeps its number.
      apart: the folder that is shown, in which the key must not lie.

    Raises:
      ValueError: it would lie there, or is another table.
    """

    def __init__(self, path: pathlib.Path, *, apart: pathlib.Path):
        self.path = path.expanduser()
        if self.path.absolute().resolve().is_relative_to(apart.absolute().resolve()):
            raise ValueError(f"--pseudonymise = {path}: the key must lie outside of the folder that is shown, {apart}")
        if self.path.exists():
            head = regular.read(self.path, _BYTES).splitlines()[:1]
            if head and head[0].decode(errors="replace").strip() != ",".join(_COLUMNS):
                raise ValueError(f"--pseudonymise = {path}: is no key, whose first line is {','.join(_COLUMNS)}")
        self._read()

    @property
    def name(self) -> str:
        """The last part of the key's path."""
        return self.path.name

    def numbers(self, ids: Iterable[str]) -> dict[str, str]:
        """Returns the number of each id; new ones are drawn by lot, so that their order says nothing, and kept."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.path.with_name(f"{self.path.name}.lock"), what=f"numbers ids in {self.path}"):
            numbers = self._read()
            new = sorted(set(ids) - numbers.keys() - {""})
            random.SystemRandom().shuffle(new)
            first = max(map(int, numbers.values()), default=0) + 1
            numbers |= {image_id: f"{number:05d}" for number, image_id in enumerate(new, first)}
            if new:
                self.path.touch(0o600)
                write_table(self.path, _COLUMNS, sorted((number, one) for one, number in numbers.items()))
                self.path.chmod(0o600)
        return numbers

    def _read(self) -> dict[str, str]:
        """Returns the numbers by the ids that have one by now."""
        rows = read_table(self.path) if self.path.exists() else []
        if any(tuple(row) != _COLUMNS or not row["number"].isdecimal() or row["id"] is None for row in rows):
            raise ValueError(f"--pseudonymise = {self.path}: has a row that is not {', '.join(_COLUMNS)}: is no key")
        numbers = {row["id"]: row["number"] for row in rows}
        if len(set(numbers.values())) < len(rows):
            raise ValueError(f"--pseudonymise = {self.path}: has a number or an id twice: is no key")
        return numbers


def pseudonymised(run: FinishedRun, key: Key) -> FinishedRun:
    """Returns what is known of a run with numbers for ids of images and groups, and without names of files.

    Ids are drawn into its pictures of patients, so these are left out.
    """
    tables = (run.predictions, run.overlaps)
    contradicting = run.audit.get("label_contradictions", {})
    ids = [row[name] for rows in tables for row in rows for name in ("image_id", "group")]
    numbers = key.numbers([*ids, *contradicting])
    audit = dict(run.audit) | {
        "label_contradictions": {numbers[image_id]: told for image_id, told in contradicting.items()},
        "passed_over": {what: dict(names) | {"first": []} for what, names in run.audit.get("passed_over", {}).items()},
    }
    predictions, overlaps = ([_numbered(row, numbers) for row in rows] for rows in tables)
    return dataclasses.replace(
        run, audit=audit, predictions=predictions, overlaps=overlaps, photographs=False, pseudonyms=key.name
    )


def _numbered(row: Mapping[str, str], numbers: Mapping[str, str]) -> dict[str, str]:
    return dict(row) | {name: numbers[row[name]] for name in ("image_id", "group")}
