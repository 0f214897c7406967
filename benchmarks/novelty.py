"""What share of images of each kind a model flags as unfamiliar: other dermoscopy, changed dermoscopy, and none at all.

    python benchmarks/novelty.py MODEL --dermoscopy NAME=FOLDER [NAME=FOLDER ...] [--photos FOLDER]

MODEL is a run's workdir or its folder `model`. Of the first data set, NAME=FOLDER,SPLITS names the splits.csv or
split.csv of the run, so that its test images alone are taken; changed images are made of this one. Images that are no
dermoscopy are drawn; photographs, of which windows are cut too, are the user's. ROC-AUC is that of the novelty, images
of the kind against those of the first data set. Cost is told of `novelty` beside all of `predict`.
"""

import argparse
import csv
import io
import pathlib
import time
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from matplotlib import figure
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image, ImageDraw
from sklearn import metrics

import segfusion_jax as sf

HEIGHT, WIDTH = 300, 400
SKIN = np.array([215.0, 165.0, 145.0])
WORDS = "the report of a patient with no history was seen in our clinic on monday and has been sent to dr name".split()
WINDOWS = 8
"""Cut from each photograph."""

Drawing = Callable[[np.random.Generator], np.ndarray]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--dermoscopy", nargs="+", required=True, metavar="NAME=FOLDER[,SPLITS]")
    parser.add_argument("--photos", help="folder of photographs")
    parser.add_argument("--most", type=int, default=800, help="images of a data set, evenly spaced")
    parser.add_argument("--drawn", type=int, default=40, help="images of each kind that is drawn")
    arguments = parser.parse_args()
    model, rng = sf.SegFusion.load(arguments.model), np.random.default_rng(0)
    sets = dict(_data_set(text, arguments.most) for text in arguments.dermoscopy)
    own = next(iter(sets.values()))
    known = np.array(model.novelty(own))
    print(f"{'kind':28}{'images':>7}{'flagged %':>11}{'median':>8}{'ROC-AUC':>9}")

    def tell(kind: str, images: Sequence) -> None:
        found = np.array(model.novelty(images))
        labels = np.repeat([0, 1], [known.size, found.size])
        area = metrics.roc_auc_score(labels, np.concatenate([known, found]))
        print(f"{kind:28}{found.size:7}{100 * (found > 1).mean():11.1f}{np.median(found):8.2f}{area:9.3f}", flush=True)

    for name, paths in sets.items():
        tell(name, paths)
    some = [_read(path) for path in own[:: max(1, len(own) // 150)]]
    for name, change in CHANGES.items():
        tell(f"changed: {name}", [change(image) for image in some])
    for name, draw in DRAWINGS.items():
        tell(f"drawn: {name}", [draw(rng) for _ in range(arguments.drawn)])
    if arguments.photos:
        photos = [_read(path) for path in _files(arguments.photos)]
        tell("photographs", photos)
        tell("windows of photographs", [_window(rng, photo) for photo in photos for _ in range(WINDOWS)])
    _cost(model, some[:64])


def _cost(model: sf.SegFusion, images: Sequence[np.ndarray]) -> None:
    model.predict(images)  # compiles
    seconds = []
    for run in (model.novelty, model.predict):
        start = time.perf_counter()
        run(images)
        seconds.append((time.perf_counter() - start) / len(images))
    print(f"seconds an image: {seconds[0]:.4f} of the {seconds[1]:.4f} of predict, {seconds[0] / seconds[1]:.0%}")


def _data_set(text: str, most: int) -> tuple[str, list[pathlib.Path]]:
    name, _, place = text.partition("=")
    folder, _, splits = place.partition(",")
    files = _files(folder)
    if splits:
        with open(splits, newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
        test = {pathlib.PurePosixPath(row["image_id"]).name for row in rows}
        files = [path for path in files if path.stem in test]
    return name, [files[place] for place in np.linspace(0, len(files) - 1, min(most, len(files))).astype(int)]


def _files(folder: str) -> list[pathlib.Path]:
    files = sorted(
        path for path in pathlib.Path(folder).rglob("*") if path.suffix in (".jpg", ".jpeg", ".png", ".webp")
    )
    if not files:
        raise FileNotFoundError(f"{folder} holds no images")
    return [path for path in files if "superpixels" not in path.name and "segmentation" not in path.name]


def _read(path: pathlib.Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def _window(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Cuts out a quarter to seven tenths of the largest window of 3 to 4, anywhere."""
    rows, columns, _ = image.shape
    height = int(rng.uniform(0.25, 0.7) * min(rows, columns * 3 / 4))
    width = height * 4 // 3
    top, left = rng.integers(rows - height + 1), rng.integers(columns - width + 1)
    return image[top : top + height, left : left + width].copy()


def _jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def _shuffled(image: np.ndarray) -> np.ndarray:
    """Puts 4 by 4 pieces together in reverse order."""
    rows = [np.concatenate(np.array_split(row, 4, 1)[::-1], 1) for row in np.array_split(image, 4)]
    return np.concatenate(rows[::-1])


def _noisy(image: np.ndarray) -> np.ndarray:
    return _pixels(image + np.random.default_rng(0).normal(0, 50, image.shape))


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "turned by 90 degrees": lambda image: np.rot90(image).copy(),
    "mirrored": lambda image: image[::-1].copy(),
    "JPEG of quality 10": lambda image: _jpeg(image, 10),
    "darker by 30 %": lambda image: _pixels(0.7 * image),
    "grey": lambda image: np.repeat(image.mean(2, keepdims=True).astype(np.uint8), 3, 2),
    "blurred": lambda image: cv2.GaussianBlur(image, (0, 0), image.shape[1] / 25),
    "noise added": _noisy,
    "in shuffled pieces": _shuffled,
    "red and blue swapped": lambda image: image[..., ::-1].copy(),
    "inverted": lambda image: 255 - image,
}


def _pixels(values: np.ndarray) -> np.ndarray:
    return np.clip(np.broadcast_to(values, (*values.shape[:2], 3)), 0, 255).astype(np.uint8)


def _one_colour(rng: np.random.Generator) -> np.ndarray:
    grey = np.full(3, rng.choice([0, 255, 128])) if rng.random() < 0.3 else rng.integers(0, 256, 3)
    return _pixels(np.full((HEIGHT, WIDTH, 3), grey))


def _uniform_noise(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def _gaussian_noise(rng: np.random.Generator) -> np.ndarray:
    return _pixels(rng.normal(rng.uniform(60, 200, 3), rng.uniform(10, 60), (HEIGHT, WIDTH, 3)))


def _clouds(rng: np.random.Generator, channels: int, blur: float) -> np.ndarray:
    """Draws blurred noise of mean 0 and standard deviation 1."""
    noise = cv2.GaussianBlur(rng.normal(size=(HEIGHT, WIDTH, channels)), (0, 0), blur).reshape(HEIGHT, WIDTH, channels)
    return (noise - noise.mean()) / noise.std()


def _blurred_noise(rng: np.random.Generator) -> np.ndarray:
    return _pixels(rng.uniform(60, 200, 3) + rng.uniform(10, 50) * _clouds(rng, 3, rng.uniform(2, 20)))


def _skin_coloured(rng: np.random.Generator) -> np.ndarray:
    return _pixels(rng.uniform(0.6, 1.1) * SKIN + rng.uniform(4, 20) * _clouds(rng, 1, rng.uniform(1, 12)))


def _skin_and_disc(rng: np.random.Generator) -> np.ndarray:
    """Draws what a child would draw as a lesion."""
    image = _pixels(np.full((HEIGHT, WIDTH, 3), rng.uniform(0.8, 1.1) * SKIN))
    centre = int(rng.normal(WIDTH / 2, 20)), int(rng.normal(HEIGHT / 2, 15))
    colour = (rng.uniform(0.3, 0.6) * SKIN).tolist()
    return cv2.ellipse(image, centre, (int(rng.uniform(40, 130)), int(rng.uniform(40, 110))), 0, 0, 360, colour, -1)


def _two_colours(rng: np.random.Generator, share: np.ndarray) -> np.ndarray:
    one, other = rng.uniform(0, 255, (2, 3))
    return _pixels(one + share[..., None] * (other - one))


def _gradient(rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    angle = rng.uniform(0, 2 * np.pi)
    along = x / WIDTH * np.cos(angle) + y / HEIGHT * np.sin(angle)
    return _two_colours(rng, (along - along.min()) / np.ptp(along))


def _checkerboard(rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH] // rng.integers(5, 60)
    return _two_colours(rng, (x + y) % 2)


def _text_page(rng: np.random.Generator) -> np.ndarray:
    page, size = Image.new("RGB", (WIDTH, HEIGHT), (int(rng.integers(225, 256)),) * 3), int(rng.integers(9, 22))
    lines = [" ".join(rng.choice(WORDS, 12)) for _ in range(HEIGHT // size)]
    ImageDraw.Draw(page).multiline_text((14, 12), "\n".join(lines), fill="black", font_size=size)
    return np.asarray(page)


def _plots(rng: np.random.Generator) -> np.ndarray:
    """Draws plots as in a screenshot of a dashboard."""
    drawn = figure.Figure(figsize=(4, 3), dpi=100, facecolor=rng.choice(["white", "#222222", "#eeeeee"]))
    canvas, steps = FigureCanvasAgg(drawn), rng.normal(size=60).cumsum()
    for axes in drawn.subplots(*[(1, 1), (1, 2), (2, 2)][rng.integers(3)], squeeze=False).flat:
        kind = rng.choice(["lines", "bars", "dots"])
        axes.set_title("Results")
        if kind == "lines":
            axes.plot(steps)
        elif kind == "bars":
            axes.bar(range(8), abs(steps[:8]))
        else:
            axes.scatter(steps, steps[::-1])
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


DRAWINGS: dict[str, Drawing] = {
    "one colour": _one_colour,
    "uniform noise": _uniform_noise,
    "Gaussian noise": _gaussian_noise,
    "blurred noise": _blurred_noise,
    "skin-coloured texture": _skin_coloured,
    "disc on skin colour": _skin_and_disc,
    "gradient": _gradient,
    "checkerboard": _checkerboard,
    "page of text": _text_page,
    "plots": _plots,
}


if __name__ == "__main__":
    main()
