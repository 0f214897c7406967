"""`segfusion export`: a model as files that are used without this package."""

import argparse
import json

from segfusion_jax.runtime.log import say
from segfusion_jax.serving.export import artefacts
from segfusion_jax.serving.segfusion import METADATA, SegFusion, model_folder


def run(arguments: argparse.Namespace) -> int:
    """Exports the model that `arguments` names, and prints the files.

    Raises:
      FileNotFoundError: no model.
      ValueError: no size of an image.
      OSError: a package that is needed is not installed.
    """
    size = tuple(arguments.image_size) if arguments.image_size else None
    model = SegFusion.load(arguments.model, compute_dtype="float32")
    data = json.loads((model_folder(arguments.model) / METADATA).read_text()).get("data", ())
    try:
        paths = artefacts.save(model, arguments.output, arguments.format or artefacts.FORMATS, size, data)
    except ModuleNotFoundError as error:
        raise OSError(f"{error}: pip install 'segfusion_jax[export]'") from error
    for path in paths:
        say(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
    return 0
