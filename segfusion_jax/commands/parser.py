"""The command line of `segfusion`: every command with its options. It imports nothing that takes time."""

import argparse
import inspect
import pathlib
import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import segfusion_jax
from segfusion_jax.commands import options
from segfusion_jax.config import COLLECTIONS, Config, fields


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Reads a command line; prints and exits where it is wrong, or asks for help.

    `--config.FIELD=VALUE`, as ml-collections has it, is `--set FIELD=VALUE`; `--num_processes` is `--num-processes`.
    """
    return parser().parse_args(list(_in_one_spelling(words)))


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    program = argparse.ArgumentParser(
        prog="segfusion",
        description="Finds skin lesions in dermoscopic images and tells malignant from benign ones.",
        epilog="'segfusion COMMAND --help' says more. Research use only: not a medical device.",
    )
    program.add_argument("--version", action="version", version=segfusion_jax.__version__)
    commands = program.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (summary, add_options) in COMMANDS.items():
        told: dict[str, Any] = dict(help=summary, description=inspect.getdoc(add_options), allow_abbrev=False)
        add_options(commands.add_parser(name, formatter_class=argparse.RawDescriptionHelpFormatter, **told))
    return program


def _in_one_spelling(words: Sequence[str]) -> Iterator[str]:
    left = list(words)
    while left:
        word = left.pop(0)
        option, equals, value = word.partition("=")
        if re.match(r"--?config\.", option):
            if not equals and left and not left[0].startswith("-"):
                equals, value = "=", left.pop(0)
            yield f"--set={option.partition('.')[2]}{equals}{value}"
        elif option.startswith("--"):
            yield option.replace("_", "-") + equals + value
        else:
            yield word


def _train(train: argparse.ArgumentParser) -> None:
    """Runs an experiment: prepares the images, trains the U-Nets and the classifier, judges them on held-out images and
    writes a report. What is done already is not done again: the same command goes on where it was stopped, by SIGTERM,
    Ctrl-C or a crash. docs/design.md lists what the workdir holds.
    """
    train.epilog = _fields()
    options.add_config(train, "runs/CONFIG or runs/CONFIG_VARIANT")
    train.add_argument(
        "--stages",
        type=lambda text: text.split(","),
        metavar="A,B",
        help="run these only, such as evaluate,report; without it, all",
    )
    train.add_argument(
        "--reuse",
        type=pathlib.Path,
        metavar="DIR",
        help="workdir of another run, of which prepared images, U-Nets, masks and what else this one would do in the "
        "same way are taken over; a training of fewer epochs goes on from there. docs/training.md says what runs again",
    )


def _study(study: argparse.ArgumentParser) -> None:
    """Runs variants of a config, each in a folder of the workdir, and writes a page that compares
    them, index.html:

      bridge       does the bridge help? every mode, on the same splits, masks and seeds
      protocols    by how much does leakage flatter? the paper's protocol, and rung by rung to an honest one, with its
                   bridge, without one and with the config's
      origins      does it hold elsewhere? each collection, or centre, left out of training in turn, and tested on
    """
    names = ("bridge", "protocols", "origins")
    study.add_argument("study", choices=names, metavar="STUDY", help="bridge, protocols or origins")
    options.add_config(study, "runs/CONFIG_STUDY or runs/CONFIG_VARIANT_STUDY")
    study.add_argument(
        "--repeats",
        type=int,
        default=1,
        metavar="N",
        help="of bridge: classifiers of each mode, with other seeds; of protocols: draws of the pool (1)",
    )
    study.add_argument(
        "--by",
        choices=("collection", "centre"),
        metavar="WHAT",
        help="of origins: what is left out, a collection or a centre, as far as tables name one (collection)",
    )


def _compare(compare: argparse.ArgumentParser) -> None:
    """Writes a page, index.html, and comparison.json on finished runs: what each reached, and how much better it is
    than the reference, with paired intervals where the test images are the same.
    """
    compare.add_argument("runs", nargs="+", type=pathlib.Path, metavar="RUN", help="workdir of a finished run")
    compare.add_argument(
        "--reference", type=pathlib.Path, metavar="RUN", help="which one the others are compared with; else the first"
    )
    compare.add_argument("--output", required=True, type=pathlib.Path, metavar="DIR", help="folder that is written")


def _report(report: argparse.ArgumentParser) -> None:
    """Writes the page of a finished run anew, for others: index.html, which holds all that it shows, the same as
    summary.md, and its figures. The workdir stays as it is. The page says at its end what it contains; no page holds a
    path of this machine. Ids are drawn into pictures of patients: with --pseudonymise these are left out, too.
    """
    report.add_argument("run", type=pathlib.Path, metavar="RUN", help="workdir of a finished run")
    report.add_argument("--output", required=True, type=pathlib.Path, metavar="DIR", help="folder that is written")
    options.add_privacy(report)


def _plan(plan: argparse.ArgumentParser) -> None:
    """Compiles the training steps of an experiment for the devices that are there, without data, and prints the memory,
    arithmetic and communication that they need. Writes nothing and trains nothing.
    """
    options.add_config(plan, "runs/CONFIG or runs/CONFIG_VARIANT, which need not be there")


def _check(check: argparse.ArgumentParser) -> None:
    """Reads a folder or a table of images as training would, and tells what it understands: which file is what, what
    columns and labels mean, which images belong together, what cannot be used, and the command to train with. Writes a
    labels.toml, in the folder or where --labels says, in which the meaning of columns and labels can be set right; one
    that is there is heeded and left as it is.
    """
    check.add_argument("path", metavar="PATH", help="folder, zip archive, or table that ends in .csv or .tsv")
    options.add_reading(check)
    options.add_classes(check)


def _splits(splits: argparse.ArgumentParser) -> None:
    """Makes the published splits of HAM10000, ISIC 2019 and ISIC 2020 anew, from their official tables in the folders
    of SEGFUSION_DATA: a table a collection and README.md, which says what is in them. What images look like comes from
    the published list of relatives by content, or from a run that has the images.
    """
    splits.add_argument("--output", required=True, type=pathlib.Path, metavar="DIR", help="folder that is written")
    splits.add_argument(
        "--prepared",
        type=pathlib.Path,
        metavar="DIR",
        help="workdir of a run whose images are prepared: they are compared by content; without it, as published",
    )


def _predict(predict: argparse.ArgumentParser) -> None:
    """Segments and classifies images of skin lesions. Writes into the folder --output:

      index.html          a gallery of all that follows, to sort and to filter
      predictions.csv     a row an image: probability, decision, how often such decisions are right at home and where
                          else the model was evaluated, the most probable diagnosis, share that is lesion, novelty
      masks/NAME.png      the lesion, 255, of the image's own size
      overlays/NAME.png   the image with the lesion's contour and what the model says
      segmentations/NAME.dcm   with --dicom-seg: DICOM segmentations of those images that are DICOM files, but for those
                          of which no mask can be used
      evidence/NAME.png   with --explain: where the classifier finds evidence for malignancy (red) and against it (blue)

    NAME is the image's file name without its ending; of several images that share it, the second is called NAME-2 and
    so on; predictions.csv says which is which. An image that cannot be read gets a row with the reason under 'error',
    the others go on, and the exit status is 1. The same command goes on where it was stopped, and tries again what
    could not be read; an output folder of another model or of other options is refused.
    """
    predict.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="file; folder, with all folders in it (JPEG, PNG, BMP, TIFF, WebP, HEIC, DICOM; hidden files are passed "
        "over); or pattern in quotes, such as 'photos/**/*.jpg'",
    )
    options.add_model_and_output(predict)
    predict.add_argument(
        "--explain",
        action="store_true",
        help="write the evidence too; of images that were predicted before, their rows stay",
    )
    predict.add_argument(
        "--spreadsheet",
        choices=("comma", "semicolon", "tab"),
        help="write the table into spreadsheet.csv too, as spreadsheets open it: in UTF-8 with a byte order mark, with "
        "this between cells; with semicolons, decimals have commas",
    )
    predict.add_argument("--dicom-seg", action="store_true", help="write DICOM segmentations too (extra [dicom])")
    predict.add_argument(
        "--annotations",
        choices=("coco",),
        metavar="coco",
        help="write the masks into annotations.json too, as polygons that CVAT and others read: put right there, "
        "exported and laid beside the images, they train",
    )
    predict.add_argument("--no-overlays", action="store_true", help="write masks only: faster, and much smaller")
    predict.add_argument(
        "--memory",
        type=float,
        default=2.0,
        metavar="GB",
        help="of the images that are worked on at once, beside what the networks take (2); an image that takes more is "
        "an error",
    )
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


def _evaluate(evaluate: argparse.ArgumentParser) -> None:
    """Judges a model on collections that it was not trained on. A collection is checked and prepared as for training
    (once; kept in ~/.cache/segfusion_jax or --records). Images that the model was trained on or chosen by, and all
    relatives of such (same lesion, same patient, same picture under another name), are left out, and it is said how
    many. Prints the metrics with 95 % intervals over groups. Writes into the folder --output, replacing what is there:

      index.html, summary.md   the page: what was reached at home and elsewhere, and all of it by collection
      metrics.json, predictions.csv, segmentation.csv, figures/
                               of the collection; of several, each in a folder that is called like it
    """
    options.add_model_and_output(evaluate)
    evaluate.add_argument(
        "--collection",
        required=True,
        action="append",
        choices=COLLECTIONS,
        metavar="NAME",
        help=f"{', '.join(COLLECTIONS)}; as often as wanted, for one page of all",
    )
    evaluate.add_argument(
        "--root",
        action="append",
        default=[],
        metavar="PATH",
        help="its folder or zip; of several collections one each, in the same order; without it, NAME in the folders "
        "of SEGFUSION_DATA",
    )
    options.add_reading(evaluate)
    evaluate.add_argument("--records", default="", metavar="DIR", help="keep the prepared images there")
    evaluate.add_argument("--resamples", type=int, default=2000, metavar="N", help="for the intervals (2000)")
    evaluate.add_argument(
        "--add-to-model",
        action="store_true",
        help="state in the model's metadata.json what it reaches here, so that predictions tell it; its manifest.json "
        "is written anew",
    )
    options.add_privacy(evaluate)


def _export(export: argparse.ArgumentParser) -> None:
    """Writes the whole chain, image in, mask and probabilities out, into the folder --output:

      segfusion.stablehlo    for jax alone, on a CPU, a GPU or a TPU
      segfusion.onnx         for ONNX Runtime and others that read ONNX
      segfusion.json         inputs, outputs, classes, threshold, licences of the data behind the weights

    With --format web, static files that are the page of 'segfusion serve' without a server: the model runs in the
    visitor's browser. docs/export.md shows how all are used. Needs the packages of segfusion_jax[export].
    """
    options.add_model_and_output(export)
    export.add_argument(
        "--format",
        action="append",
        choices=("stablehlo", "onnx", "web"),
        help="the first two may both be given; without it, both of them",
    )
    export.add_argument(
        "--image-size",
        nargs=2,
        type=int,
        metavar=("HEIGHT", "WIDTH"),
        help="of all images that it will take, in pixels; without it, images of any size",
    )
    export.add_argument(
        "--runtime",
        type=pathlib.Path,
        metavar="DIR",
        help="of web: folder with onnxruntime-web-1.30.0.tgz, which is downloaded from registry.npmjs.org if it is not "
        "there; without it, the cache's",
    )


def _serve(serve: argparse.ArgumentParser) -> None:
    """Serves a model at this machine's own address, http://127.0.0.1:8000/: a page to drop images on, and the same for
    programs, POST /v1/predictions. Nothing is written to disk, no name of a file is logged, and other machines cannot
    ask. Over a limit a request is refused by a status that says so. docs/serve.md shows requests and answers. Needs the
    packages of segfusion_jax[serve].
    """
    options.add_model(serve)
    serve.add_argument("--port", type=int, default=8000, metavar="N", help="where it listens (8000); 0 = any free one")
    serve.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="of the interface where it listens (127.0.0.1); any that others reach needs --token-file",
    )
    serve.add_argument(
        "--token-file", metavar="FILE", help="holds what clients must send, in a header 'Authorization: Bearer TOKEN'"
    )
    serve.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="another name by which clients call this server, as often as needed",
    )
    limits: list[tuple[str, Any, Any, str, str]] = [
        ("--max-megabytes", float, 64, "MB", "of a request"),
        ("--max-megapixels", float, 32, "MP", "of an image"),
        ("--max-images", int, 16, "N", "of a request"),
        ("--max-queue", int, 64, "N", "images of all requests that are under way together"),
        ("--max-seconds", float, 60, "S", "from a request's arrival to its answer"),
    ]
    for name, kind, default, unit, told in limits:
        serve.add_argument(name, type=kind, default=default, metavar=unit, help=f"{told} ({default})")


COMMANDS = {
    "train": ("an experiment, from the official files to the report", _train),
    "study": ("several variants of an experiment, and a page of them", _study),
    "compare": ("finished runs side by side", _compare),
    "report": ("the page of a finished run, to be shown to others", _report),
    "plan": ("what an experiment will need of this machine", _plan),
    "check": ("what is understood of a folder of images", _check),
    "splits": ("the published splits, made anew", _splits),
    "predict": ("masks and probabilities of images", _predict),
    "evaluate": ("metrics on a labelled collection", _evaluate),
    "export": ("a model as one file, for serving", _export),
    "serve": ("a page to drop images on, and HTTP for programs", _serve),
}
"""What each command is about, and the function that adds its options, whose docstring is the command's help."""


def _fields() -> str:
    """Lists every field of a config, by sections, with its default."""
    lines = ["Fields of a config with their defaults, which the config and then --set FIELD=VALUE replace."]
    for path, section in fields.sections(Config()):
        lines += ["", f"{path}: {section.__doc__.partition(chr(10))[0]}" if path else section.__doc__]
        for one in fields.describe(section, path):
            told = "; ".join(filter(None, (one.meaning, one.accepted)))
            lines.append(f"  {one.name} = {one.default!r}")
            lines += textwrap.wrap(told, 112, initial_indent=6 * " ", subsequent_indent=6 * " ")
    return "\n".join(lines)
