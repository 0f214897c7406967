"""`segfusion export`: a model as files that are used without this package."""

import argparse
import pathlib

from segfusion_jax.runtime import caches
from segfusion_jax.runtime.locks import locked_folder
from segfusion_jax.runtime.log import say
from segfusion_jax.serving.export import artefacts, site
from segfusion_jax.serving.segfusion import SegFusion


def run(arguments: argparse.Namespace) -> int:
    """Exports the model that `arguments` names, and prints the files.

    Raises:
      FileNotFoundError: no model.
      ValueError: no size of an image, the format "web" with what does not go with it, or another runtime of the web.
      OSError: a package that is needed is not installed, or the runtime of the web cannot be downloaded.
    """
    if "web" in (arguments.format or ()):
        _check_web(arguments)
    model = SegFusion.load(arguments.model, compute_dtype="float32", plugins=arguments.plugin)
    try:
        with locked_folder(arguments.output, what=f"exports into {arguments.output}"):
            paths = _written(model, arguments)
    except ModuleNotFoundError as error:
        raise OSError(f"{error}: pip install 'segfusion_jax[export]'") from error
    for path in paths:
        say(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
    return 0


def _check_web(arguments: argparse.Namespace) -> None:
    if set(arguments.format) != {"web"}:
        raise ValueError(f"--format = {', '.join(arguments.format)}: 'web' goes into a folder of its own")
    if arguments.image_size:
        raise ValueError("--image-size: not with --format web, whose visitors have images of any size")


def _written(model: SegFusion, arguments: argparse.Namespace) -> list[pathlib.Path]:
    if "web" in (arguments.format or ()):
        return site.save(model, arguments.output, arguments.runtime or caches.folder("web"))
    size = tuple(arguments.image_size) if arguments.image_size else None
    assert model.folder is not None  # where it was loaded from
    formats = arguments.format or artefacts.FORMATS
    return artefacts.save(model, arguments.output, formats, size, model.folder.metadata.data)
