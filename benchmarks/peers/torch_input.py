"""PyTorch's DataLoader over files, with torchvision's transforms doing what ours does to image and mask."""

import argparse
import pathlib
import random
import time

import torch
from PIL import Image
from serving import serve

try:
    import torchvision  # noqa: F401
except RuntimeError:  # beside the plain CPU torch, see torch_networks.py
    _declared = torch.library.Library("torchvision", "DEF")
    for _name in ("nms", "qnms"):
        _declared.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from torchvision.transforms.v2 import InterpolationMode  # noqa: E402
from torchvision.transforms.v2 import functional as transforms  # noqa: E402


class Lesions(torch.utils.data.Dataset):
    """Images and masks of a folder, resized, flipped, rotated, shifted and zoomed at random."""

    def __init__(self, folder: pathlib.Path, side: int):
        self.images = sorted((folder / "images").iterdir())
        self.masks = sorted((folder / "masks").iterdir())
        self.side = side

    def __len__(self):
        return 10**6

    def __getitem__(self, index):
        index %= len(self.images)
        pair = Image.open(self.images[index]).convert("RGB"), Image.open(self.masks[index]).convert("L")
        angle, zoom = random.uniform(-15, 15), random.uniform(0.8, 1.2)
        shift = [round(random.uniform(-0.2, 0.2) * self.side) for _ in range(2)]
        flips = random.random() < 0.5, random.random() < 0.5
        made = []
        for picture in pair:
            tensor = transforms.pil_to_tensor(picture)
            tensor = transforms.resize(tensor, [self.side, self.side], antialias=True)
            tensor = transforms.horizontal_flip(tensor) if flips[0] else tensor
            tensor = transforms.vertical_flip(tensor) if flips[1] else tensor
            options = dict(angle=angle, translate=shift, scale=zoom, shear=[0.0, 0.0])
            made.append(transforms.affine(tensor, **options, interpolation=InterpolationMode.BILINEAR))
        return made


def main() -> None:
    """Answers a number of batches with the seconds they took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--side", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    loader = torch.utils.data.DataLoader(
        Lesions(args.folder, args.side), args.batch, shuffle=False, num_workers=args.workers
    )
    batches = iter(loader)
    for _ in range(4):
        next(batches)

    def answer(line: str) -> dict:
        start = time.perf_counter()
        for _ in range(int(line)):
            next(batches)
        return {"seconds": time.perf_counter() - start}

    serve(answer, {"version": f"torch {torch.__version__}"})


main()
