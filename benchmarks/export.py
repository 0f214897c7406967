"""A model as `SegFusion.predict`, as StableHLO and as ONNX: sizes, times, and how far their answers lie apart.

    python benchmarks/export.py MODEL FOLDER [--images=100] [--batch=16]

FOLDER holds images of one size. Rates are of batches, taken in turns: the best of three rounds.
"""

import argparse
import json
import pathlib
import tempfile
import time
from collections.abc import Callable

import jax
import numpy as np
import onnxruntime
from jax import export
from PIL import Image

import segfusion_jax as sf
from segfusion_jax.runtime.devices import keep_memory
from segfusion_jax.serving.export import artefacts

ROUNDS = 3


def main() -> None:
    """Prints sizes, seconds, rates and differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--batch", type=int, default=16)
    arguments = parser.parse_args()
    keep_memory()
    files = sorted(arguments.folder.glob("*.jpg"))
    some = [files[place] for place in np.linspace(0, len(files) - 1, arguments.images).astype(int)]
    images = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in some])
    model = sf.SegFusion.load(arguments.model, compute_dtype="float32")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for form in artefacts.FORMATS:
            _, seconds = _timed(lambda form=form: artefacts.save(model, folder, [form]))
            print(f"{form}: {(folder / f'segfusion.{form}').stat().st_size / 1e6:.1f} MB, written in {seconds:.1f} s")
        _compare(model, *_loaded(folder), images, arguments.batch)


def _loaded(folder: pathlib.Path) -> tuple[Callable, Callable, dict]:
    chain = jax.jit(export.deserialize(bytearray((folder / "segfusion.stablehlo").read_bytes())).call)
    session = onnxruntime.InferenceSession(folder / "segfusion.onnx", providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return (
        lambda images: jax.device_get(chain(images)),
        lambda images: dict(zip(names, session.run(None, {"images": images}), strict=True)),
        json.loads((folder / "segfusion.json").read_text()),
    )


def _compare(model: sf.SegFusion, stablehlo: Callable, onnx: Callable, facts: dict, images: np.ndarray, batch: int):
    def predict(images: np.ndarray) -> dict[str, np.ndarray]:
        found = model.predict(images)
        return {
            "malignant": np.array([one.probability for one in found]),
            "decision": np.array([one.malignant for one in found]),
            "mask": np.stack([one.mask for one in found]),
        }

    def exported(run: Callable) -> Callable:
        def answer(images: np.ndarray) -> dict[str, np.ndarray]:
            outputs = run(images)
            return {
                "malignant": outputs["malignant"],
                "decision": outputs["malignant"] >= facts["threshold"],
                "mask": outputs["mask"] >= facts["mask_threshold"],
            }

        return answer

    ways = {"predict": predict, "stablehlo": exported(stablehlo), "onnx": exported(onnx)}
    for size in (1, batch):
        best = dict.fromkeys(ways, np.inf)
        for name, way in ways.items():
            print(f"{name}, {size} at a time, first: {_timed(lambda way=way, size=size: way(images[:size]))[1]:.1f} s")
        for _ in range(ROUNDS):
            for name, way in ways.items():
                best[name] = min(best[name], _timed(lambda way=way, size=size: way(images[:size]))[1])
        print(f"images a second, {size} at a time:", {name: round(size / best[name], 1) for name in ways}, flush=True)
    parts = [images[place : place + batch] for place in range(0, len(images) // batch * batch, batch)]
    found = {name: [way(part) for part in parts] for name, way in ways.items()}
    joined = {
        name: {key: np.concatenate([one[key] for one in all_]) for key in all_[0]} for name, all_ in found.items()
    }
    for name in ("stablehlo", "onnx"):
        apart = np.abs(joined[name]["malignant"] - joined["predict"]["malignant"])
        print(
            f"{name} and predict, {len(apart)} images: probability apart by {np.median(apart):.5f} (median), "
            f"{np.quantile(apart, 0.95):.5f} (95 %), {apart.max():.5f}; "
            f"{(joined[name]['mask'] != joined['predict']['mask']).mean():.4%} of pixels; "
            f"{(joined[name]['decision'] != joined['predict']['decision']).sum()} decisions"
        )
    between = np.abs(joined["stablehlo"]["malignant"] - joined["onnx"]["malignant"])
    print(f"stablehlo and onnx: probability apart by {between.max():.6f} at most")


def _timed(run: Callable) -> tuple[object, float]:
    start = time.perf_counter()
    result = run()
    return result, time.perf_counter() - start


if __name__ == "__main__":
    main()
