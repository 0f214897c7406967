"""Programs that another process finds again: here the same one, with functions that must not be traced."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segfusion_jax.runtime import programs

NUMBERS = jnp.arange(6.0)
ONE = jax.devices()[:1]


@pytest.fixture(autouse=True)
def folder(tmp_path):
    """The folder where JAX keeps what it compiles, for one test."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    yield tmp_path / "segfusion_jax"
    jax.config.update("jax_compilation_cache_dir", before)


def doubled(numbers):
    return 2 * numbers


def untraceable(numbers):
    raise AssertionError("traced again")


def files(folder):
    return sorted(folder.iterdir()) if folder.is_dir() else []


def test_a_kept_program_is_neither_traced_nor_compiled_again(folder):
    first = programs.kept(doubled, "double", ONE, NUMBERS)
    again = programs.kept(untraceable, "double", ONE, NUMBERS)
    np.testing.assert_array_equal(first(NUMBERS), [0, 2, 4, 6, 8, 10])
    np.testing.assert_array_equal(again(NUMBERS), [0, 2, 4, 6, 8, 10])
    assert len(files(folder)) == 1 and folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("identity", "numbers"),
    [("triple", NUMBERS), ("double", jnp.arange(7.0)), ("double", jnp.arange(6)), ("double", NUMBERS.astype("f2"))],
)
def test_another_identity_shape_or_dtype_is_another_program(identity, numbers, folder):
    programs.kept(doubled, "double", ONE, NUMBERS)
    with pytest.raises(AssertionError, match="traced again"):
        programs.kept(untraceable, identity, ONE, numbers)


def test_code_and_flags_tell_programs_apart(monkeypatch):
    before = programs._surroundings()
    programs._surroundings.cache_clear()
    monkeypatch.setenv("XLA_FLAGS", "--xla_another=1")
    assert programs._surroundings() != before
    programs._surroundings.cache_clear()


@pytest.mark.parametrize("spoil", ["cut", "changed", "writable by others"])
def test_what_is_damaged_or_might_be_anothers_is_compiled_anew(spoil, folder):
    programs.kept(doubled, "double", ONE, NUMBERS)
    (path,) = files(folder)
    content = path.read_bytes()
    match spoil:
        case "cut":
            path.write_bytes(content[: len(content) // 2])
        case "changed":
            path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
        case _:
            path.chmod(0o666)
    with pytest.raises(AssertionError, match="traced again"):
        programs.kept(untraceable, "double", ONE, NUMBERS)
    np.testing.assert_array_equal(programs.kept(doubled, "double", ONE, NUMBERS)(NUMBERS), [0, 2, 4, 6, 8, 10])
    np.testing.assert_array_equal(programs.kept(untraceable, "double", ONE, NUMBERS)(NUMBERS), [0, 2, 4, 6, 8, 10])


def test_a_folder_that_takes_nothing_costs_only_time(folder):
    folder.write_text("no folder")
    np.testing.assert_array_equal(programs.kept(doubled, "double", ONE, NUMBERS)(NUMBERS), [0, 2, 4, 6, 8, 10])


def test_without_a_folder_nothing_is_kept(tmp_path):
    jax.config.update("jax_compilation_cache_dir", None)
    np.testing.assert_array_equal(programs.kept(doubled, "double", ONE, NUMBERS)(NUMBERS), [0, 2, 4, 6, 8, 10])
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o077])
def test_what_is_kept_is_found_again_whatever_the_umask(umask, folder):
    before = os.umask(umask)
    try:
        programs.kept(doubled, "double", ONE, NUMBERS)
        (path,) = files(folder)
        assert path.stat().st_mode & 0o777 == 0o600
        np.testing.assert_array_equal(programs.kept(untraceable, "double", ONE, NUMBERS)(NUMBERS), [0, 2, 4, 6, 8, 10])
    finally:
        os.umask(before)
