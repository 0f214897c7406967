"""`segfusion export`: a model as files that are used without this package."""

import argparse

from segfusion_jax.runtime.locks import locked_folder
from segfusion_jax.runtime.log import say
from segfusion_jax.serving.export import artefacts
from segfusion_jax.serving.segfusion import SegFusion


def run(arguments: argparse.Namespace) -> int:
    """Exports the model that `arguments` names, and prints the files.

    Raises:
      FileNotFoundError: no model.
      ValueError: no size of an image.
      OSError: a package that is needed is not installed.
    """
    size = tuple(arguments.image_size) if arguments.image_size else None
    model = SegFusion.load(arguments.model, compute_dtype="float32")
    assert model.folder is not None  # where it was loaded from
    try:
        with locked_folder(arguments.output, what=f"exports into {arguments.output}"):
            formats = arguments.format or artefacts.FORMATS
            paths = artefacts.save(model, arguments.output, formats, size, model.folder.metadata.data)
    except ModuleNotFoundError as error:
        raise OSError(f"{error}: pip install 'segfusion_jax[export]'") from error
    for path in paths:
        say(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
    return 0
