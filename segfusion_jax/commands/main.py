"""The command line: its arguments, what the process is set to, and how it ends."""

import argparse
import importlib
import importlib.metadata
import logging as std_logging
import pathlib
import sys
from collections.abc import Sequence

from segfusion_jax.config import COLLECTIONS
from segfusion_jax.runtime.locations import cache_folder

_PREDICT = """\
Segments and classifies images of skin lesions. Writes into the folder --output:

  predictions.csv        a row an image: probability, decision, share of the image that is lesion
  masks/NAME.png         the lesion, 255, of the image's own size
  overlays/NAME.png      the image with the lesion's contour and what the model says
  evidence/NAME.png      with --explain: where the classifier finds evidence for malignancy (red) and against it (blue)

NAME is the image's file name without its ending; of several images that share it, the second is called NAME-2 and so
on; predictions.csv says which is which. An image that cannot be read gets a row with the reason under 'error', the
others go on, and the exit status is 1. The same command goes on where it was stopped, and tries again what could not be
read; an output folder of another model or of other options is refused."""

_EVALUATE = """\
Judges a model on a collection that it was not trained on. The collection is checked and prepared as for training (once;
kept in ~/.cache/segfusion_jax or --records). Images that the model was trained on or chosen by, and all relatives of
such (same lesion, same patient, same picture under another name), are left out, and it is said how many. Writes into
the folder --output: metrics.json, predictions.csv, segmentation.csv, replacing what is there; prints the metrics with
95 % intervals over groups."""

_EXPORT = """\
Writes the whole chain, image in, mask and probabilities out, into the folder --output:

  segfusion.stablehlo    for jax alone, on a CPU, a GPU or a TPU
  segfusion.onnx         for ONNX Runtime and others that read ONNX
  segfusion.json         inputs, outputs, classes, threshold, licences of the data behind the weights

docs/export.md shows how they are used. Needs the packages of segfusion_jax[export]."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status: 1 where something went wrong, 75 or 130 where it was stopped."""
    arguments = parser().parse_args(argv)
    command = importlib.import_module(f"segfusion_jax.commands.{arguments.command}")  # jax takes seconds, --help none
    from segfusion_jax.runtime import interruption

    _set_up()
    try:
        return command.run(arguments)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except interruption.Stopped as stopped:
        print(f"{stopped}; the same command goes on", file=sys.stderr)
        return stopped.status


def parser() -> argparse.ArgumentParser:
    """Of the command line."""
    program = argparse.ArgumentParser(
        prog="segfusion",
        description="Finds skin lesions in dermoscopic images and tells malignant from benign ones.",
        epilog="'segfusion COMMAND --help' says more. Research use only: not a medical device.",
    )
    program.add_argument("--version", action="version", version=importlib.metadata.version("segfusion_jax"))
    commands = program.add_subparsers(dest="command", metavar="COMMAND", required=True)
    plain = argparse.RawDescriptionHelpFormatter
    predict = commands.add_parser(
        "predict", help="masks and probabilities of images", description=_PREDICT, formatter_class=plain
    )
    predict.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="file; folder, with all folders in it (JPEG, PNG, BMP, TIFF, WebP; hidden files are passed over); or "
        "pattern in quotes, such as 'photos/**/*.jpg'",
    )
    _add_model_and_output(predict)
    predict.add_argument("--explain", action="store_true", help="write the evidence too")
    predict.add_argument("--no-overlays", action="store_true", help="write masks only: faster, and much smaller")
    predict.add_argument(
        "--threshold",
        type=float,
        metavar="P",
        help="probability, at the model's own prevalence, from which an image is called malignant; without it, the "
        "model's own; metadata.json has those for other sensitivities under operating_points",
    )
    predict.add_argument(
        "--prevalence",
        type=float,
        metavar="P",
        help="share of malignant images, above 0 and below 1, where the model is used: changes the probabilities, but "
        "not the decisions; without it, that of the model's training images",
    )
    evaluate = commands.add_parser(
        "evaluate", help="metrics on a labelled collection", description=_EVALUATE, formatter_class=plain
    )
    _add_model_and_output(evaluate)
    evaluate.add_argument(
        "--collection", required=True, choices=COLLECTIONS, metavar="NAME", help=", ".join(COLLECTIONS)
    )
    evaluate.add_argument(
        "--root",
        default="",
        metavar="PATH",
        help="its folder or zip; without it, NAME in the folders of SEGFUSION_DATA",
    )
    evaluate.add_argument("--records", default="", metavar="DIR", help="keep the prepared images there")
    evaluate.add_argument("--resamples", type=int, default=2000, metavar="N", help="for the intervals (2000)")
    export = commands.add_parser(
        "export", help="a model as one file, for serving", description=_EXPORT, formatter_class=plain
    )
    _add_model_and_output(export)
    export.add_argument(
        "--format", action="append", choices=("stablehlo", "onnx"), help="may be given twice; without it, both"
    )
    export.add_argument(
        "--image-size",
        nargs=2,
        type=int,
        metavar=("HEIGHT", "WIDTH"),
        help="of all images that it will take, in pixels; without it, images of any size",
    )
    return program


def _add_model_and_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, type=pathlib.Path, metavar="DIR", help="released model, or a workdir")
    parser.add_argument("--output", required=True, type=pathlib.Path, metavar="DIR", help="folder that is written")


def _set_up() -> None:
    """Logging to standard error, signals, memory, and compiled programs that the next start finds again."""
    import jax
    from absl import flags, logging

    from segfusion_jax.runtime import interruption
    from segfusion_jax.runtime.devices import keep_memory

    flags.FLAGS.mark_as_parsed()  # there are none, and absl's log would wait for them
    logging.use_absl_handler()
    logging.set_verbosity(logging.INFO)
    handler = logging.get_absl_handler()
    handler.addFilter(_is_ours_or_serious)
    handler.setFormatter(std_logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    interruption.install()
    keep_memory()
    jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def _is_ours_or_serious(record: std_logging.LogRecord) -> bool:
    """Keeps the libraries' remarks, which share absl's log, out of ours."""
    return record.levelno >= std_logging.WARNING or "segfusion_jax" in pathlib.Path(record.pathname).parts


if __name__ == "__main__":
    sys.exit(main())
