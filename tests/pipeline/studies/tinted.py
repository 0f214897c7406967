"""Small collections of drawn lesions, each photographed in a light of its own."""

import io
import pathlib
from collections.abc import Mapping

import numpy as np
from PIL import Image

from segfusion_jax.config import Config, Data, Source
from segfusion_jax.datasets.collections import synthetic
from segfusion_jax.datasets.files import Folder
from segfusion_jax.pipeline.studies.variants import changed
from tests.datasets.official import write_table

LIGHTS = {"red": (1.0, 0.75, 0.7), "white": (1.0, 1.0, 1.0), "blue": (0.7, 0.8, 1.0)}


def write(folder: pathlib.Path, n: int, light: tuple[float, float, float], seed: int) -> None:
    """Writes an image folder of `n` drawn images under a light, with masks, from two centres."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    rows = [("image", "label", "group", "origin")]
    records, _ = synthetic.read(Folder(folder), Data(synthetic_images=n, synthetic_seed=seed))
    for number, record in enumerate(records):
        name = f"{folder.name}{number:03d}"
        pixels = np.asarray(Image.open(io.BytesIO(record.image.read())))
        Image.fromarray((pixels * np.array(light)).astype(np.uint8)).save(folder / f"images/{name}.jpg", quality=95)
        assert record.mask
        (folder / f"masks/{name}.png").write_bytes(record.mask.read())
        rows.append((name, "melanoma" if record.malignant else "nevus", record.lesion_id, "AB"[number % 2]))
    write_table(folder / "labels.csv", rows)


def config(base: Config, folder: pathlib.Path, sizes: Mapping[str, int]) -> Config:
    """Writes collections of some sizes, names of LIGHTS, into `folder`; returns `base` with them."""
    for seed, (name, n) in enumerate(sizes.items(), 1):
        write(folder / name, n, LIGHTS[name], seed)
    sources = {name: Source(reader="image_folder", root=str(folder / name)) for name in sizes}
    return changed(base, "data", collection="", collections=sources)
