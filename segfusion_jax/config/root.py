"""The whole config of a run, and what it is read from and written as."""

import dataclasses
import json
from typing import TYPE_CHECKING, Self

from segfusion_jax.config import reading, sections
from segfusion_jax.config.data import Data
from segfusion_jax.config.fields import Section, at_least, field, is_plugin, one_of, plugin

if TYPE_CHECKING:  # importing it takes a tenth of a second, which the help need not wait for
    import ml_collections


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Section):
    """One experiment."""

    seed: int = field(0, at_least(0))
    """Seed of initial weights, dropout, input order and augmentation."""
    compute_dtype: str = field("auto", one_of("auto", "float32", "bfloat16"))
    """Dtype of the networks; "auto" = bfloat16 on an accelerator, float32 on a CPU."""
    metric_logger: str = field("", plugin(""))
    """Your own logger of metrics, beside metrics.jsonl."""
    data: Data = Data()
    splits: sections.Splits = sections.Splits()
    segmenter: sections.Segmenter = sections.Segmenter()
    bridge: sections.Bridge = sections.Bridge()
    classifier: sections.Classifier = sections.Classifier()
    evaluation: sections.Evaluation = sections.Evaluation()
    release: sections.Release = sections.Release()
    parallel: sections.Parallel = sections.Parallel()
    input: sections.Input = sections.Input()
    checkpoints: sections.Checkpointing = sections.Checkpointing()

    def __post_init__(self):
        super().__post_init__()
        limited = [name for name, source in self.data.sources.items() if source.use in ("train", "test")]
        if limited and self.splits.protocol != "grouped":
            raise ValueError(
                f"splits.protocol = {self.splits.protocol!r}: must be 'grouped', since data.collections.{limited[0]} "
                f"is for {self.data.sources[limited[0]].use} only"
            )

    @property
    def plugins(self) -> dict[str, str]:
        """The parts that somebody else wrote, "package.module:name", by the fields that name them."""
        fields = {
            "metric_logger": self.metric_logger,
            "segmenter.augmentation.extra": self.segmenter.augmentation.extra,
            "classifier.backbone": self.classifier.backbone,
            "classifier.loss": self.classifier.loss,
            "classifier.augmentation.extra": self.classifier.augmentation.extra,
        }
        fields |= {f"data.collections.{name}.reader": one.reader for name, one in self.data.collections.items()}
        return {field: name for field, name in fields.items() if is_plugin(name)}

    @classmethod
    def from_config_dict(cls, config_dict: "ml_collections.ConfigDict") -> Self:
        """Checks every value of `config_dict` and freezes it; of fields with an old name the log tells the new one.

        Raises:
          ValueError: names the field, its value and what is accepted: an unknown or missing field, a wrong type, a
            value out of range.
        """
        return reading.from_dict(cls, config_dict.to_dict(), "config", warn=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` wrote, of an earlier version too: fields that it did not have get their defaults."""
        values = reading.completed(dataclasses.asdict(cls()), json.loads(text))
        return reading.from_dict(cls, values, "config", warn=False)

    def to_json(self) -> str:
        """Returns the config as indented JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    def to_config_dict(self) -> "ml_collections.ConfigDict":
        """Returns the config as a ConfigDict that configs and flags may change field by field."""
        import ml_collections

        return ml_collections.ConfigDict(dataclasses.asdict(self))


def default() -> "ml_collections.ConfigDict":
    """Returns all fields at their defaults: what a file in `configs/` starts from."""
    return Config().to_config_dict()
