"""Puts together the image folder that the released models are trained on.

    python released/ham10000/assemble.py --ham10000=HAM10000 --crops=CROPS --output=FOLDER

HAM10000 holds the official files, here with images of 200x150. CROPS holds sharper centre crops of some of them:
`images/`, `masks/` and `labels.csv`. FOLDER gets links to both and one `labels.csv`, for configs/released.py. Images of
a lesion, crops among them, share its id, so that no split parts them.
"""

import argparse
import csv
import pathlib

COLUMNS = ("image", "mask", "dx", "lesion_id", "age", "sex", "localization")
PARTS = ("HAM10000_images_part_1", "HAM10000_images_part_2")
MASKS = "HAM10000_segmentations_lesion_tschandl"


def assemble(ham10000: pathlib.Path, crops: pathlib.Path, output: pathlib.Path) -> int:
    """Writes `output` and returns how many images it names."""
    output.mkdir(parents=True)
    for name in (*PARTS, MASKS):
        (output / name).symlink_to((ham10000 / name).resolve())
    for name in ("images", "masks"):
        (output / f"crop_{name}").symlink_to((crops / name).resolve())
    folders = {path.stem: part for part in PARTS for path in (ham10000 / part).glob("*.jpg")}
    rows = []
    for row in _rows(ham10000 / "HAM10000_metadata.csv"):
        image_id = row["image_id"]
        rows.append(row | {"image": f"{folders[image_id]}/{image_id}.jpg", "mask": f"{MASKS}/{_mask(image_id)}"})
    for row in _rows(crops / "labels.csv"):
        image_id = row["image_id"]
        rows.append(row | {"image": f"crop_images/{image_id}.jpg", "mask": f"crop_masks/{_mask(image_id)}"})
    with (output / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return len(rows)


def _rows(path: pathlib.Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _mask(image_id: str) -> str:
    return f"{image_id}_segmentation.png"


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ("ham10000", "crops", "output"):
        parser.add_argument(f"--{option}", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    print(f"{assemble(arguments.ham10000, arguments.crops, arguments.output)} images in {arguments.output}")


if __name__ == "__main__":
    main()
