"""What each stage of a run depends on: fields of the config, and the content of the files that they name."""

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from segfusion_jax.config import Config, flatten, places
from segfusion_jax.datasets import earlier_split
from segfusion_jax.models.from_config import pretrained_digest
from segfusion_jax.pipeline import released
from segfusion_jax.runtime import plugins

DEPENDS = {
    "prepare": ("data.", "splits."),
    "segment": ("seed", "compute_dtype", "parallel.", "segmenter."),
    "score": ("bridge.threshold", "segmenter.test_time_augmentation"),
    "bridge": ("bridge.masks", "bridge.min_area", "bridge.max_border"),
    "classify": ("bridge.", "classifier."),
    "evaluate": ("evaluation.", "classifier.test_time_augmentation"),
    "report": ("release.",),
}
"""Fields of the config, or sections, by the first stage whose result depends on them, in the order of the stages. Of
several that a field begins with, the longest counts. What a stage depends on, those after it depend on too."""

FREE = (
    "input.",
    "metric_logger",
    "checkpoints.",
    "parallel.api",
    *(f"{model}.training.{name}" for model in ("segmenter", "classifier") for name in ("remat", "nonfinite")),
)
"""Fields and sections that change no result, but a run that stops at what is not finite into one that skips it."""

PLACES = (*places.PLACES, "data.download")
"""Fields that say where something lies, or is fetched. What lies there counts, not how the way is spelled; so with the
`root` of each of `data.collections`."""

ADDED = ("data.classes", "data.positive", "segmenter.augmentation.extra", "classifier.augmentation.extra")
"""Fields that workdirs of this layout need not have. Where they are empty it is as if they were not there."""

TRAINED = {"segment": "segmenter.training.epochs", "classify": "classifier.training.epochs"}
"""The stages that train, and the field that says for how long."""


@functools.cache
def stage_of(field: str) -> str | None:
    """Returns the first stage whose result depends on a field; None for none.

    >>> stage_of("bridge.threshold"), stage_of("bridge.alpha"), stage_of("input.num_workers")
    ('score', 'classify', None)
    """
    beginnings = [(begins, stage) for stage, fields in DEPENDS.items() for begins in fields]
    beginnings += [(begins, None) for begins in FREE]
    return max((one for one in beginnings if field.startswith(one[0])), key=lambda one: len(one[0]))[1]


def values(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a config, nested as in JSON, that some stage depends on, by their dotted names."""
    bound = {name: value for name, value in flatten(dict(config)).items() if stage_of(name)}
    if "/" in bound.get("bridge.masks", ""):
        bound["bridge.masks"] = "released"  # which model it is, its digests tell
    bound = {name: value for name, value in bound.items() if value or name not in ADDED}
    return {name: value for name, value in bound.items() if name not in PLACES and not _is_root(name)}


def files(config: Config, images: str) -> dict[str, str]:
    """Returns a digest of what lies where the fields say that are `PLACES`, by field, and of the code of somebody's own
    parts, which were loaded.

    Args:
      config: the config.
      images: fingerprint of the images, as `identity.identify` returns it.

    Raises:
      FileNotFoundError: a file is not there.
    """
    found = {"data.root": images}
    found |= {field: plugins.digest(name) for field, name in config.plugins.items() if stage_of(field)}
    if config.splits.table:
        content = b"".join(path.read_bytes() for path in earlier_split.find(config.splits))
        found["splits.table"] = hashlib.sha256(content).hexdigest()
    for name, section in (("segmenter", config.segmenter), ("classifier", config.classifier)):
        if section.pretrained:
            found[f"{name}.pretrained"] = pretrained_digest(section)
    return found | released.digests(config)


def fingerprints(
    values: Mapping[str, Any], files: Mapping[str, str], longer: Mapping[str, Sequence[int]]
) -> dict[str, str]:
    """Returns a hash of all that the result of each stage depends on.

    Args:
      values: fields, as of `values`.
      files: digests, as of `files`.
      longer: by stage, for how many epochs it was trained before it was trained for longer.
    """
    found, stages = {}, []
    for stage in DEPENDS:
        stages.append(stage)
        parts = [{name: one for name, one in part.items() if stage_of(name) in stages} for part in (values, files)]
        parts += [{name: list(one) for name, one in longer.items() if name in stages and one}]
        found[stage] = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return found


def _is_root(name: str) -> bool:
    return name.startswith("data.collections.") and name.endswith(".root")
