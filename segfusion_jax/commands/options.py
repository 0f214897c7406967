"""Options that several commands have. It imports nothing that takes time."""

import argparse
import pathlib


def add_config(parser: argparse.ArgumentParser, workdir: str) -> None:
    """Adds a config, its workdir, which is `workdir` where none is named, and the processes that it runs in."""
    parser.add_argument(
        "--config",
        required=True,
        metavar="CONFIG[:VARIANT]",
        help="name of a shipped config, such as synthetic or ham10000:quick; or the path of a file, configs/mine.py",
    )
    parser.add_argument("--workdir", metavar="DIR", help=f"folder that is written; without it, {workdir}")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="another value of a field, such as classifier.training.epochs=5 or segmenter.image_size='(96, 128)', as "
        "often as needed; --config.FIELD=VALUE does the same; 'segfusion train --help' lists all fields",
    )
    parser.add_argument(
        "--coordinator",
        default="",
        metavar="HOST:PORT",
        help='of process 0, where several processes run together; "auto" on Slurm, Open MPI, Kubernetes, Cloud TPU',
    )
    parser.add_argument("--num-processes", type=int, default=0, metavar="N", help="how many there are")
    parser.add_argument("--process", type=int, default=0, metavar="I", help="index of this one, from 0")


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Adds how an image_folder is read."""
    parser.add_argument(
        "--labels",
        default="",
        metavar="FILE",
        help="label map of an image_folder: what its columns and values mean; without it, labels.toml in the "
        "folder, if there is one",
    )
    parser.add_argument(
        "--group",
        default="",
        metavar="COLUMN",
        help='column of an image_folder by which images belong together; "folder": its inner folders; "none": nothing',
    )


def add_classes(parser: argparse.ArgumentParser) -> None:
    """Adds somebody's own classes."""
    parser.add_argument(
        "--classes",
        default="",
        metavar="NAMES",
        help="your own classes, by commas, as data.classes has them: labels and folders are called so",
    )


def add_privacy(parser: argparse.ArgumentParser) -> None:
    """Adds what a page for others leaves out."""
    parser.add_argument("--no-photographs", action="store_true", help="leave out every picture of a patient")
    parser.add_argument(
        "--pseudonymise",
        type=pathlib.Path,
        metavar="KEY",
        help="numbers in place of the ids of images and groups; KEY, a CSV outside of --output, says which is which, "
        "and serves further pages",
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds a model, and the code that it may need."""
    parser.add_argument("--model", required=True, type=pathlib.Path, metavar="DIR", help="released model, or a workdir")
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="MODULE:NAME",
        help="code of the model's maker that may be imported, where its backbone is such; as often as needed",
    )


def add_model_and_output(parser: argparse.ArgumentParser) -> None:
    """Adds a model and the folder that is written."""
    add_model(parser)
    parser.add_argument("--output", required=True, type=pathlib.Path, metavar="DIR", help="folder that is written")
