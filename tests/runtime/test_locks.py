import errno
import fcntl
import logging
import os
import socket
import threading
import time

import pytest

from segfusion_jax.runtime.locks import locked, owned


def test_the_second_is_refused_and_told_who_the_first_is(tmp_path):
    with owned(tmp_path / "new/lock", what="the folder"):
        with pytest.raises(ValueError, match=r"^the folder is in use by process \d+ on .+; it is free when that ends$"):
            with owned(tmp_path / "new/lock", what="the folder"):
                raise AssertionError("both have it")
    with owned(tmp_path / "new/lock", what="the folder"):
        pass


def test_every_further_one_is_refused_until_the_holder_is_done(tmp_path):
    here = f"process {os.getpid()} on {socket.gethostname()}"
    for _ in range(3):
        with owned(tmp_path / "lock", what="the folder"):
            for _ in range(2):
                with pytest.raises(ValueError, match=f"^the folder is in use by {here}; it is free when that ends$"):
                    with owned(tmp_path / "lock", what="the folder"):
                        raise AssertionError("both have it")
        assert (tmp_path / "lock").exists()  # were it removed, who has opened it would hold what nobody else sees


def test_a_third_is_refused_while_one_that_waited_has_it(tmp_path):
    waiting, has_it, done = threading.Event(), threading.Event(), threading.Event()

    def second():
        waiting.set()
        with locked(tmp_path / "lock", what="does it"):
            has_it.set()
            done.wait(60)

    other = threading.Thread(target=second)
    with locked(tmp_path / "lock", what="does it"):
        other.start()
        waiting.wait(60)
        time.sleep(0.2)  # now it waits for the file that is there
    assert has_it.wait(60)
    try:
        with pytest.raises(ValueError, match="^the folder is in use by another process; it is free when that ends$"):
            with owned(tmp_path / "lock", what="the folder"):
                raise AssertionError("both have it")
    finally:
        done.set()
        other.join()


def test_one_that_waits_gets_it_when_the_first_is_done(tmp_path, caplog):
    order, inside = [], threading.Event()

    def second():
        with locked(tmp_path / "lock", what="does it"):
            order.append("second")

    with caplog.at_level(logging.INFO, logger="segfusion_jax"), locked(tmp_path / "lock", what="does it"):
        other = threading.Thread(target=second)
        other.start()
        inside.wait(0.3)
        order.append("first")
    other.join()
    assert order == ["first", "second"]
    assert "waiting for another process, which does it" in caplog.text


def test_a_file_system_without_locks_is_used_with_a_warning(tmp_path, monkeypatch, caplog):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with owned(tmp_path / "lock", what="the folder"):
        pass
    assert "the folder cannot be locked" in caplog.text
