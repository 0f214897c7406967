"""`segfusion serve`: a model behind HTTP, with a page to drop images on."""

import argparse
import math
import os
import pathlib
import threading
from collections.abc import Sequence

import numpy as np

from segfusion_jax.runtime import interruption, regular
from segfusion_jax.runtime.log import say
from segfusion_jax.serving.facts import USE, Facts
from segfusion_jax.serving.segfusion import Prediction, SegFusion

_TOKEN = (16, 4096)  # characters
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_ANY = ("0.0.0.0", "::")


def run(arguments: argparse.Namespace) -> int:
    """Serves the model that `arguments` name until a signal comes; requests under way are answered first.

    Raises:
      FileNotFoundError: no model, or no file with a token.
      ValueError: a limit, a port or a token that is none, or an address beyond this machine without a token or a name.
      OSError: the address is taken, or a package that is needed is not installed.
    """
    token, hosts = _token(arguments), _hosts(arguments)
    try:
        from segfusion_jax.serving.web import app, device, server
        from segfusion_jax.serving.web.limits import Limits
    except ModuleNotFoundError as error:
        raise OSError(f"{error}: pip install 'segfusion_jax[serve]'") from error
    for name in ("max_megabytes", "max_megapixels", "max_seconds"):
        if not 0 < (value := getattr(arguments, name)) < math.inf:
            raise ValueError(f"--{name.replace('_', '-')} = {value}: must be above 0, and finite")
    limits = Limits(
        bytes=round(arguments.max_megabytes * 1e6),
        pixels=round(arguments.max_megapixels * 1e6),
        images=arguments.max_images,
        queue=arguments.max_queue,
        seconds=arguments.max_seconds,
    )
    if not 0 <= arguments.port <= 65535:
        raise ValueError(f"--port = {arguments.port}: must be 0 to 65535")
    listening = server.listen(arguments.host, arguments.port)
    model = SegFusion.load(arguments.model, plugins=arguments.plugin)

    def predict(images: Sequence[np.ndarray], explain: bool) -> list[Prediction]:
        return model.predict(images, explain=explain)

    served = app.make_app(predict, Facts.of(model), limits, hosts=hosts, token=token)
    say(f"{server.address(listening)}\n{USE} Ctrl-C ends it.")
    try:
        with interruption.deferred():
            server.serve(served, listening)
    except interruption.Stopped:
        say("ended")
        if any(thread.name == device.THREAD for thread in threading.enumerate()):
            os._exit(0)  # it compiles still, which nothing else ends
    return 0


def _token(arguments: argparse.Namespace) -> str:
    """Returns what clients must send, "" where only this machine can ask."""
    is_loopback = arguments.host in _LOOPBACK
    if arguments.token_file is None:
        if not is_loopback:
            raise ValueError(f"--host = {arguments.host}: others can ask there, so give a token by --token-file")
        return ""
    token = regular.read(pathlib.Path(arguments.token_file), _TOKEN[1] + 2).decode("utf-8", "replace").strip()
    if not _TOKEN[0] <= len(token) <= _TOKEN[1] or not token.isascii() or not token.isprintable():
        raise ValueError(
            f"{arguments.token_file}: {len(token)} characters: a token must be {_TOKEN[0]} to {_TOKEN[1]} printable "
            "ASCII characters, such as those of: openssl rand -hex 32"
        )
    return token


def _hosts(arguments: argparse.Namespace) -> list[str]:
    """Returns the names by which clients may ask for this server, beside those of the loopback interface."""
    if arguments.host in _ANY:
        if not arguments.allow_host:
            raise ValueError(f"--host = {arguments.host}: say by --allow-host what clients call this server")
        return list(arguments.allow_host)
    return [arguments.host, *arguments.allow_host]
