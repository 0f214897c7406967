"""Images as the models see them, and what they make of them. Galleries are PNG files of 150 dpi."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.typing import LineStyleType

from segfusion_jax.report.plots import style

CELL = 1.6  # inches, width of one image
LINE = 0.16  # inches, height of a line of text
LETTERS = 24  # that fit beside an image

_SIGNED = "RdBu_r"  # colours that stay distinct under every kind of colour blindness


class Explanation(NamedTuple):
    """Where in an image the classifier found evidence for malignancy and against it."""

    title: str
    image: np.ndarray  # [height, width, 3] uint8
    bridged: np.ndarray  # [height, width, 3] uint8, what the classifier sees
    mask: np.ndarray  # [height, width] bool, the lesion
    evidence: (
        np.ndarray
    )  # [rows, columns] of any resolution over the same frame; above 0 for malignancy, below 0 against
    inside_share: float  # of the evidence's magnitude, the share within the mask, in [0, 1]; NaN = no evidence


class Missed(NamedTuple):
    """A malignant image that is called benign."""

    image_id: str
    image: np.ndarray  # [height, width, 3] uint8
    mask: np.ndarray  # [height, width] bool, the lesion as the bridge was given it
    probability: float  # of malignancy


def segmentation_overlays(
    path: Path, panels: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray, str]], columns: int = 4
) -> Figure:
    """Shows images with the contours of the annotated and of the predicted lesion.

    Args:
      path: PNG file to write.
      panels: image uint8 [height, width, 3], annotation bool [height, width], prediction bool [height, width], title.
      columns: most images side by side.

    Raises:
      ValueError: there are no panels.
    """
    figure, cells = _gallery([panel[0] for panel in panels], columns)
    for axes, (image, annotation, prediction, title) in zip(cells, panels, strict=True):
        axes.imshow(image)
        _contour(axes, annotation, style.SKY, "-")
        _contour(axes, prediction, style.YELLOW, "--")
        axes.set_title(_wrap(title), fontsize=8, color=style.INK)
    style.legend_above(figure, {"Annotation": (style.SKY, "-"), "Prediction": (style.YELLOW, "--")}, outlined=True)
    return style.save_gallery(figure, path)


def false_negatives(path: Path, panels: Sequence[Missed], columns: int = 4) -> Figure:
    """Shows malignant images that are called benign, with the contour of the lesion.

    Args:
      path: PNG file to write.
      panels: the images, in the order in which they are shown.
      columns: most images side by side.

    Raises:
      ValueError: there are no panels.
    """
    figure, cells = _gallery([panel.image for panel in panels], columns)
    for axes, panel in zip(cells, panels, strict=True):
        axes.imshow(panel.image)
        _contour(axes, panel.mask, style.SKY, "-")
        title = _wrap(f"{panel.image_id}\nprobability {panel.probability:.3f}")
        axes.set_title(title, fontsize=8, color=style.INK)
    style.legend_above(figure, {"Mask": (style.SKY, "-")}, outlined=True)
    return style.save_gallery(figure, path)


def bridge_panels(path: Path, panels: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray, str]]) -> Figure:
    """Shows one column for each image: the image, its mask, and what the classifier sees of the two.

    Args:
      path: PNG file to write.
      panels: image uint8 [height, width, 3], mask uint8 [height, width], bridged uint8 [height, width, 3], title.

    Raises:
      ValueError: there are no panels.
    """
    figure, grid = _grid([panel[0] for panel in panels], 3, len(panels), 1)
    for column, (image, mask, bridged, title) in zip(grid.T, panels, strict=True):
        column[0].imshow(image)
        column[1].imshow(mask, cmap="gray", vmin=0, vmax=255)
        column[2].imshow(bridged)
        column[0].set_title(_wrap(title), fontsize=8, color=style.INK)
    _name_rows(grid, ("Image", "Mask", "Bridged"))
    return style.save_gallery(figure, path)


def explanations(path: Path, panels: Sequence[Explanation], toward: str = "malignancy") -> Figure:
    """Shows one column for each image: the image, what the classifier sees, and its evidence over the image.

    Evidence for what is looked for is red, against it blue, each image's scaled to its strongest. The contour is the
    lesion's.

    Args:
      path: PNG file to write.
      panels: the images, in the order in which they are shown.
      toward: what is looked for.

    Raises:
      ValueError: there are no panels.
    """
    figure, grid = _grid([panel.image for panel in panels], 3, len(panels), 2)
    for column, panel in zip(grid.T, panels, strict=True):
        height, width = panel.image.shape[:2]
        evidence = np.asarray(panel.evidence, np.float64)
        evidence = evidence / (np.abs(evidence).max() or 1.0)
        column[0].imshow(panel.image)
        column[0].set_title(_wrap(panel.title), fontsize=8, color=style.INK)
        column[1].imshow(panel.bridged)
        column[2].imshow(panel.image.mean(axis=2), cmap="gray", vmin=0, vmax=255)
        frame = (-0.5, width - 0.5, height - 0.5, -0.5)
        column[2].imshow(evidence, cmap=_SIGNED, vmin=-1, vmax=1, alpha=0.6, extent=frame, interpolation="bilinear")
        _contour(column[0], panel.mask, style.SKY, "-")
        _contour(column[2], panel.mask, style.YELLOW, "-")
        told = "no evidence" if np.isnan(panel.inside_share) else f"{100 * panel.inside_share:.0f} % inside the lesion"
        column[2].set_xlabel(told, fontsize=8, color=style.INK)
    _name_rows(grid, ("Image", "Classifier sees", "Evidence"))
    bar = figure.colorbar(
        ScalarMappable(Normalize(-1, 1), _SIGNED),
        ax=grid,
        location="bottom",
        shrink=0.4,
        aspect=50,
        pad=0.02,
        ticks=[-1, 0, 1],
    )
    bar.ax.set_xticklabels(["against", "0", f"for {toward}"])
    bar.set_label("Evidence (share of the strongest)", fontsize=8, color=style.INK)
    bar.ax.tick_params(labelsize=8, colors=style.INK)
    return style.save_gallery(figure, path)


def augmentation_sheet(path: Path, rows: Sequence[Sequence[tuple[np.ndarray, np.ndarray]]]) -> Figure:
    """Shows one row for each image: its augmented copies with the contour of the mask.

    Args:
      path: PNG file to write.
      rows: for each image its copies: image uint8 [height, width, 3] and mask uint8 [height, width], 0..255.

    Raises:
      ValueError: there are no rows, or one without copies.
    """
    if not rows or not all(rows):
        raise ValueError(f"rows hold {[len(row) for row in rows]} copies: every image needs at least one")
    figure, grid = _grid([rows[0][0][0]], len(rows), max(map(len, rows)), 0)
    for axes_row, row in zip(grid, rows, strict=True):
        for axes, (image, mask) in zip(axes_row, row, strict=False):
            axes.imshow(image)
            _contour(axes, mask > 127, style.SKY, "-")
    return style.save_gallery(figure, path)


def _gallery(images: Sequence[np.ndarray], columns: int) -> tuple[Figure, list[Axes]]:
    """Returns a figure and the cells of `images`, row by row."""
    columns = max(1, min(columns, len(images)))
    figure, grid = _grid(images, -(-len(images) // columns), columns, 2)
    return figure, list(grid.flat)[: len(images)]


def _grid(images: Sequence[np.ndarray], rows: int, columns: int, lines: int) -> tuple[Figure, np.ndarray]:
    """Returns a figure of cells in the aspect of the tallest of `images`, with `lines` of text at each."""
    if not images:
        raise ValueError("panels is empty: there is no image to draw")
    aspect = max(image.shape[0] / image.shape[1] for image in images)
    figure = style.gallery(CELL * columns + 2 * LINE, (CELL * aspect + LINE * lines) * rows + 4 * LINE)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    return figure, grid


def _name_rows(grid: np.ndarray, headings: Sequence[str]) -> None:
    for axes, heading in zip(grid[:, 0], headings, strict=True):
        axes.set_ylabel(heading, fontsize=9, color=style.INK)


def _wrap(text: str) -> str:
    return "\n".join(textwrap.fill(line, LETTERS) for line in text.splitlines())


def _contour(axes: Axes, mask: np.ndarray, colour: str, line: LineStyleType) -> None:
    if not mask.any():
        return
    height, width = mask.shape
    padded = np.pad(mask, 1).astype(np.float64)  # closes contours of lesions that touch the border
    lines = axes.contour(
        np.arange(-1, width + 1),
        np.arange(-1, height + 1),
        padded,
        [0.5],
        colors=colour,
        linestyles=line,
        linewidths=1.4,
    )
    lines.set_path_effects([patheffects.withStroke(linewidth=2.6, foreground="black", alpha=0.5)])
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
