"""Output never ends a run, and a caller decides what becomes of the log."""

import subprocess
import sys

import pytest


def run(code: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, **options)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_a_terminal_cannot_show_is_replaced(encoding, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    code = "from segfusion_jax.runtime.log import say; say('0.9 \u2265 0.8'); say('\u2265', error=True)"
    done = run(code, stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0.9 ? 0.8\n", "?\n")


def test_nobody_need_read_on():
    code = (
        "import time; from segfusion_jax.runtime.log import say; time.sleep(0.5); [say('x' * 9999) for _ in range(9)]"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == 0


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "1>&- 2>&-"])
def test_it_may_be_closed_from_the_start(closed):
    code = "from segfusion_jax.runtime.log import say; say('out'); say('err', error=True)"
    assert subprocess.run(f'{sys.executable} -c "{code}" {closed}', shell=True).returncode == 0


LOGGED = "import logging; {before}; from segfusion_jax.runtime import log; log.show(); log.LOGGER.info('progress')"


@pytest.mark.parametrize(
    ("before", "seen"),
    [
        ("pass", True),
        ("logging.getLogger('segfusion_jax').setLevel('WARNING')", False),
        ("logging.getLogger('segfusion_jax').addHandler(logging.NullHandler())", False),
        ("logging.basicConfig(format='mine: %(message)s')", True),
        ("import absl.logging; logging.getLogger('absl').addHandler(logging.StreamHandler())", True),
        ("import absl.logging; logging.getLogger('absl').addHandler(logging.NullHandler())", False),
    ],
)
def test_progress_is_seen_unless_the_caller_says_otherwise(before, seen):
    done = run(LOGGED.format(before=before))
    assert done.stderr.count("progress") == int(seen) and ("mine: " in done.stderr) == ("mine" in before)
