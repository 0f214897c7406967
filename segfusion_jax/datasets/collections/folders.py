"""What the names of the folders around an image say: its class, its split, and who it is of."""

import re
from collections.abc import Iterable, Sequence

from segfusion_jax.datasets.collections import labels, official
from segfusion_jax.datasets.collections.columns import SPLITS, LabelMap, key, looks_like_a_group
from segfusion_jax.datasets.collections.layout import IMAGE_FOLDERS
from segfusion_jax.datasets.files import Folder


def rows(
    root: Folder, pictures: Iterable[str], label_map: LabelMap, group: str, own: Sequence[str] = ()
) -> list[official.Row]:
    """Returns a row for each image that lies in a folder: path, label, split and patient_id.

    Args:
      root: the folder, for messages.
      pictures: paths of the images.
      label_map: what it says of labels counts for names of folders.
      group: `data.group`.
      own: `Data.own_classes`.

    Raises:
      ValueError: an own class that is called like a split, a patient, or any folder of images; a folder that is no
        class, or of which it is not clear whether it is a patient; classes in each other that contradict.
    """
    found, unclear = [], {}
    taken = [name for name in own if key(name) in IMAGE_FOLDERS or name.lower() in SPLITS or _is_someone(name)]
    if taken:
        raise ValueError(
            f"data.classes has {', '.join(taken)}: a folder of that name says no class but a split, a patient, or that "
            "images are there; call folder and class otherwise, or bring a table with a column label"
        )
    for path in pictures:
        names = _told(path)
        if "/" in path:
            meant = {name: label_map.meant("label", name) for name in names}
            named = {name: text for name, text in meant.items() if labels.is_label(text, own)}
            words = {name: text for name, text in named.items() if not text.isdigit()} or named
            classes = list(words.values())
            others = [name for name in names if name not in words and not _is_someone(name)]
            if others and not classes:
                _refuse_no_class(root, others[0], own)
            if others and not group:
                unclear[others[-1]] = path
            split = next((SPLITS[name.lower()] for name in path.split("/")[:-1] if name.lower() in SPLITS), "")
            label = _deepest(root, classes, own)
            written = next((name for name, text in words.items() if text == label), "")
            row = {"path": path, "label": label, "written": written, "split": split}
            found.append(row | {"patient_id": of_whom(path, group, others)})
    if unclear:
        listed = ", ".join(list(unclear.values())[:3])
        raise ValueError(
            f"{root}: folders in the classes, {', '.join(map(repr, list(unclear)[:5]))}: are the images in one of them "
            f"of one patient ({listed})? Say --set data.group=folder if so, --set data.group=none if not "
            "(segfusion evaluate: --group)"
        )
    return found


def of_whom(path: str, group: str, others: Sequence[str] = ()) -> str:
    """Returns the patient, or lesion, that the folders around an image name; "" = none.

    It is the innermost folder called like a patient, such as "patient_1", or else like a lesion, a case or a visit;
    with `group` "folder" the innermost of `others` where there is none of these, with "none" no one.
    """
    if group == "none":
        return ""
    told = [name for name in reversed(_told(path)) if _is_someone(name)]
    people = [name for name in told if key(name).startswith(("pat", "subject", "proband"))]
    name = next(iter((*people, *told, *(reversed(others) if group == "folder" else ()))), "")
    return f"folder:{name}" if name else ""


def _told(path: str) -> list[str]:
    names = path.split("/")[:-1]
    return [name for name in names if key(name) not in IMAGE_FOLDERS and name.lower() not in SPLITS]


def _is_someone(name: str) -> bool:
    parts = re.findall(r"[^\W\d_]+|\d+", name)
    return looks_like_a_group(name) and len(parts) > 1 and not labels.is_label(name)


def _deepest(root: Folder, classes: Sequence[str], own: Sequence[str]) -> str:
    """Returns the innermost class that is a diagnosis, else the innermost."""
    read = [(text, *labels.read(text, own)) for text in classes]
    sides = {diagnosis if own else malignant for _, diagnosis, malignant in read} - {-1, ""}
    if len(sides) > 1:
        raise ValueError(f"{root}: folders {'/'.join(classes)} contradict each other")
    diagnoses = [text for text, diagnosis, _ in read if diagnosis]
    return (diagnoses or list(classes) or [""])[-1]


def _refuse_no_class(root: Folder, name: str, own: Sequence[str]) -> None:
    try:
        labels.read(name, own)
    except ValueError as error:
        raise ValueError(f"{root}: folder {name!r} is no class: {error}") from None
