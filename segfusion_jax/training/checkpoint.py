"""Checkpoints: all that a training needs to go on, and the proof that it is whole. The only module that knows Orbax."""

import contextlib
import hashlib
import json
import logging
import pathlib
import shutil
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from segfusion_jax.runtime.devices import Devices

_log = logging.getLogger(__name__)

FORMAT = 2
"""Number of the form of a checkpoint. Raised when an older one can no longer be read."""

_OTHER_BYTES = 2_000_000
"""Bytes of a checkpoint beside its arrays; generously."""

_ARRAYS, _FACTS = "arrays", "facts"


class _Damaged(Exception):
    """A checkpoint is not what was written."""


class Checkpoints:
    """The newest few of one training: arrays, facts about them, and checksums of both.

    A checkpoint appears whole or not at all. All processes write and read; each holds all arrays.

    Args:
      folder: created when missing.
      devices: devices whose processes take part.
      keep: how many.
      read_only: to read from a folder that cannot, or shall not, be written.
    """

    def __init__(self, folder: pathlib.Path, devices: Devices, *, keep: int = 2, read_only: bool = False):
        self._folder = folder.absolute()
        self._devices = devices
        self._read_only = read_only
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=checkpoint_managers.LatestN(keep),
                cleanup_tmp_directories=not read_only,  # of saves that were cut off
                create=not read_only,
                read_only=read_only,
            ),
        )

    def latest_step(self) -> int | None:
        """Returns the step of the newest checkpoint that is, or is being, written; None before the first."""
        return self._manager.latest_step()

    def save(self, step: int, arrays: Any, facts: dict[str, Any]) -> None:
        """Starts writing in the background; waits until the one before is written.

        Args:
          step: number of steps after which this is; not yet saved.
          arrays: a pytree, the same on every device and process.
          facts: to be kept as JSON.

        Raises:
          FloatingPointError: an array holds a number that is not finite.
          OSError: this or the last one cannot be written; those before are untouched.
        """
        on_host = jax.device_get(arrays)
        _check_finite(on_host, step)
        self._check_space(step, on_host)
        content = {"format": FORMAT, "facts": facts, "arrays": _signature(on_host), "numbers": _digest(on_host)}
        content["sha256"] = _digest_of_json(content)
        # of arrays on several devices Orbax cuts a slice for each to write, and compiles a program for each shape
        written = on_host if self._devices.num_processes == 1 else arrays
        composite = ocp.args.Composite(**{_ARRAYS: ocp.args.StandardSave(written), _FACTS: ocp.args.JsonSave(content)})
        with self._refusing(step):
            self._manager.save(step, args=composite, force=True)

    def restore(self, like: Any) -> tuple[Any, dict[str, Any]] | None:
        """Returns the newest arrays, with the structure and shardings of `like`, and their facts; None before the
        first.

        Of a damaged checkpoint a warning is logged, it is put aside, and the one before it is read.

        Raises:
          ValueError: another version of this package or another model wrote it; or all of them are damaged.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        damaged: dict[int, str] = {}
        for step in steps:
            found, what = None, "another process cannot read it"
            try:
                found = self._read(step, like)
            except _Damaged as error:
                what = str(error)
            if self._devices.any_process(found is None):
                damaged[step] = what
            else:
                self._put_aside(damaged, step)
                return found
        if damaged:
            listed = "; ".join(f"of step {step}: {what}" for step, what in damaged.items())
            raise ValueError(f"{self._folder}: every checkpoint is damaged ({listed}). Delete the folder to start anew")
        return None

    def close(self) -> None:
        """Waits until everything is written.

        Raises:
          OSError: the last one cannot be.
        """
        with self._refusing(self.latest_step()):
            self._manager.close()

    def _read(self, step: int, like: Any) -> tuple[Any, dict[str, Any]]:
        folder = self._folder / str(step)
        if (folder / "position").exists():
            raise ValueError(f"{folder} is a checkpoint of an older version of segfusion_jax, which had another format")
        content = self._read_item(step, _FACTS, ocp.args.JsonRestore())
        _check_facts(content)
        if content["format"] != FORMAT:
            theirs = f"format {content['format']}, this version of segfusion_jax reads {FORMAT}"
            raise ValueError(f"{folder}: the checkpoint has {theirs}")
        _check_signature(folder, content["arrays"], _signature(like))
        arrays = self._read_item(step, _ARRAYS, ocp.args.StandardRestore(like))
        if _digest(jax.device_get(arrays)) != content["numbers"]:
            raise _Damaged("its numbers do not have the recorded checksum")
        return arrays, content["facts"]

    def _read_item(self, step: int, name: str, args: Any) -> Any:
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**{name: args}))[name]
        except (jax.errors.JaxRuntimeError, MemoryError):
            raise
        except Exception as error:
            if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
                raise  # of the reading, not of what is read
            # whatever Orbax, TensorStore or a JSON parser make of a bad file
            raise _Damaged(f"{name} cannot be read: {_in_short(error)}") from error

    def _put_aside(self, damaged: dict[int, str], step: int) -> None:
        """Renames damaged checkpoints, so that their steps can be saved anew."""
        for bad, what in damaged.items():
            text = "%s: the checkpoint of step %d is damaged (%s); going on from the one of step %d"
            _log.warning(text, self._folder, bad, what, step)
        if not damaged or self._read_only:
            return
        self._devices.wait_for_all("damaged checkpoints found")
        if self._devices.is_lead:
            for bad in damaged:
                aside = self._folder / f"damaged_{bad}"
                shutil.rmtree(aside, ignore_errors=True)
                (self._folder / str(bad)).rename(aside)
        self._devices.wait_for_all("damaged checkpoints put aside")
        self._manager.reload()

    def _check_space(self, step: int, arrays: Any) -> None:
        """Checks the space before writing: Orbax says the same in thousands of lines, and then only after it."""
        needed = _OTHER_BYTES + sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(arrays))
        free = shutil.disk_usage(self._folder).free
        if free < needed:
            raise OSError(self._not_written(step, f"{free / 1e6:.1f} MB are free, it takes {needed / 1e6:.1f} MB"))

    @contextlib.contextmanager
    def _refusing(self, step: int | None):
        try:
            yield
        except (ValueError, OSError) as error:  # TensorStore raises ValueError where the disk is full
            raise OSError(self._not_written(step, _in_short(error))) from error

    def _not_written(self, step: int | None, why: str) -> str:
        kept = sorted(int(path.name) for path in self._folder.glob("[0-9]*") if path.name.isdecimal())
        good = f"that of step {kept[-1]} is kept" if kept else "there is none before it"
        return f"{self._folder}: the checkpoint of step {step} cannot be written: {why}; {good}"


def _in_short(error: Exception) -> str:
    """Cuts a message of TensorStore, which adds its whole configuration, to the reason, which stands before it at the
    end.
    """
    line = (str(error).splitlines() or [""])[0].partition(" [tensorstore_spec")[0]
    return f"{type(error).__name__}: {line if len(line) <= 600 else f'{line[:200]} ... {line[-400:]}'}"


def _check_finite(arrays: Any, step: int) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(arrays):
        if not np.isfinite(leaf).all():
            name = jax.tree_util.keystr(path)
            raise FloatingPointError(f"{name} holds a number that is not finite after step {step}: it is not saved")


def _signature(arrays: Any) -> dict[str, str]:
    """Returns dtype and shape of each array."""
    leaves = jax.tree_util.tree_leaves_with_path(arrays)
    return {jax.tree_util.keystr(path): f"{leaf.dtype} {list(leaf.shape)}" for path, leaf in leaves}


def _digest(arrays: Any) -> str:
    hashed = hashlib.sha256()
    for leaf in jax.tree.leaves(arrays):
        hashed.update(np.ascontiguousarray(leaf).data)
    return hashed.hexdigest()


def _digest_of_json(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _check_facts(content: Any) -> None:
    if not isinstance(content, dict) or content.pop("sha256", None) != _digest_of_json(content):
        raise _Damaged("its facts do not have the recorded checksum")


def _check_signature(folder: pathlib.Path, theirs: dict[str, str], ours: dict[str, str]) -> None:
    differing = [name for name in sorted(theirs | ours) if theirs.get(name) != ours.get(name)]
    if differing:
        listed = "; ".join(
            f"{name} is {theirs.get(name, 'missing')} there, {ours.get(name, 'missing')} here" for name in differing[:5]
        )
        raise ValueError(f"{folder}: the checkpoint is of another model: {listed}")
