"""Prints how far our networks are from their peers: a Markdown table of relative errors."""

from tests.parity import comparison
from tests.parity.networks import NETWORKS


def main() -> None:
    """Compares all, a line each as it is done."""
    print("| peer | version | worst stage | logits | logits, training | statistics after training |")
    print("|---|---|---|---|---|---|", flush=True)
    for name in NETWORKS:
        _print_row(name, *comparison.compare(name))
    _print_row('keras EfficientNetB0(weights="imagenet")', *comparison.compare_imagenet())
    _print_row("keras layers as the paper's U-Net", *comparison.compare_unet())


def _print_row(name: str, version: str, errors: comparison.Errors) -> None:
    cells = ["–" if error is None else f"{error:.1e}" for error in errors]
    print(f"| {name} | {version} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
