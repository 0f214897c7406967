"""PyTorch's DataLoader over files, with torchvision or albumentations doing what ours does to image and mask."""

import argparse
import pathlib
import random
import time

import cv2
import numpy as np
import torch
from PIL import Image
from serving import serve

try:
    import torchvision  # noqa: F401
except RuntimeError:  # beside the plain CPU torch, see torch_networks.py
    _declared = torch.library.Library("torchvision", "DEF")
    for _name in ("nms", "qnms"):
        _declared.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from torchvision.io import ImageReadMode, decode_image  # noqa: E402
from torchvision.transforms.v2 import InterpolationMode  # noqa: E402
from torchvision.transforms.v2 import functional as transforms  # noqa: E402


class Lesions(torch.utils.data.Dataset):
    """Images and masks of a folder, resized, flipped, rotated, shifted and zoomed at random; tensors of uint8.

    Attributes:
      way: "pil" (decoded and transformed by Pillow), "tensor" (decoded by Pillow, transformed by PyTorch), "io"
        (decoded by torchvision, transformed by PyTorch) or "albumentations" (decoded and transformed by OpenCV).
    """

    def __init__(self, folder: pathlib.Path, side: int, way: str):
        self.images = sorted((folder / "images").iterdir())
        self.masks = sorted((folder / "masks").iterdir())
        self.side = side
        self.way = way
        self.albumentations = _albumentations(side) if way == "albumentations" else None

    def __len__(self):
        return 10**6

    def __getitem__(self, index):
        index %= len(self.images)
        if self.albumentations:
            image = cv2.imread(str(self.images[index]), cv2.IMREAD_COLOR_RGB)
            mask = cv2.imread(str(self.masks[index]), cv2.IMREAD_GRAYSCALE)
            made = self.albumentations(image=image, mask=mask)
            return [torch.from_numpy(np.ascontiguousarray(made[name])) for name in ("image", "mask")]
        if self.way == "io":
            pair = (
                decode_image(str(self.images[index]), mode=ImageReadMode.RGB),
                decode_image(str(self.masks[index]), mode=ImageReadMode.GRAY),
            )
        else:
            pair = Image.open(self.images[index]).convert("RGB"), Image.open(self.masks[index]).convert("L")
        if self.way == "tensor":
            pair = [transforms.pil_to_tensor(picture) for picture in pair]
        made = self._transformed(pair)
        return [transforms.pil_to_tensor(picture) for picture in made] if self.way == "pil" else made

    def _transformed(self, pair):
        angle, zoom = random.uniform(-15, 15), random.uniform(0.8, 1.2)
        shift = [round(random.uniform(-0.2, 0.2) * self.side) for _ in range(2)]
        flips = random.random() < 0.5, random.random() < 0.5
        made = []
        for picture in pair:
            picture = transforms.resize(picture, [self.side, self.side], antialias=True)
            picture = transforms.horizontal_flip(picture) if flips[0] else picture
            picture = transforms.vertical_flip(picture) if flips[1] else picture
            options = dict(angle=angle, translate=shift, scale=zoom, shear=[0.0, 0.0])
            made.append(transforms.affine(picture, **options, interpolation=InterpolationMode.BILINEAR))
        return made


def _albumentations(side: int):
    import albumentations

    cv2.setNumThreads(0)  # as its documentation advises beside workers
    return albumentations.Compose(
        [
            albumentations.Resize(side, side, interpolation=cv2.INTER_AREA, mask_interpolation=cv2.INTER_AREA),
            albumentations.HorizontalFlip(p=0.5),
            albumentations.VerticalFlip(p=0.5),
            albumentations.Affine(
                scale=(0.8, 1.2),
                translate_percent=(-0.2, 0.2),
                rotate=(-15, 15),
                interpolation=cv2.INTER_LINEAR,
                mask_interpolation=cv2.INTER_LINEAR,
                border_mode=cv2.BORDER_REPLICATE,
                p=1.0,
            ),
        ]
    )


def main() -> None:
    """Answers a number of batches with the seconds they took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--side", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--way", required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    loader = torch.utils.data.DataLoader(
        Lesions(args.folder, args.side, args.way), args.batch, shuffle=False, num_workers=args.workers
    )
    batches = iter(loader)
    next(batches)

    def answer(line: str) -> dict:
        for _ in range(2 + 2 * args.workers):
            next(batches)
        start = time.perf_counter()
        for _ in range(int(line)):
            next(batches)
        return {"seconds": time.perf_counter() - start}

    serve(answer, {"version": f"torch {torch.__version__}"})


main()
