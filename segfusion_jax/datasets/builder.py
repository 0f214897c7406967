"""The collections as TensorFlow Datasets, which need TensorFlow neither to be prepared nor to be read.

    builder = Ham10000(data_dir="~/records", data=config.Data(collection="ham10000", root="~/HAM10000"))
    builder.download_and_prepare()
    source = builder.as_data_source("images")

There is one split, "images" (TFDS reserves "all"): who trains on what is decided outside the records, by `splits`.
Records are in the order of their image ids. `mask` is the encoded PNG as a string, empty without annotation, which an
image feature cannot be.
"""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from segfusion_jax import config
from segfusion_jax.datasets import collection, ham10000, images, isic2019, isic2020, synthetic

SPLIT = "images"

_TEXTS = ("image_id", "lesion_id", "patient_id", "group", "diagnosis", "sex", "site", "source")


class _Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """What the builders share; a subclass names its collection."""

    VERSION = tfds.core.Version("1.0.0")
    code_path = (
        None  # else TFDS 4.9.10 looks for checksums beside it with importlib_resources, which it does not install
    )
    COLLECTION: str
    TITLE: str
    ADDRESS: str

    def __init__(
        self, *, data: config.Data | None = None, contents: collection.Collection | None = None, **kwargs: Any
    ) -> None:
        """Names the input; nothing is read before `download_and_prepare`.

        Args:
          data: where the official files are and how they are stored; default: found by SEGFUSION_DATA.
          contents: what `collection.collect(data)` returned, if it has been called.
          **kwargs: of `tfds.core.GeneratorBasedBuilder`, `data_dir` above all.

        Raises:
          ValueError: `data` names another collection.
        """
        self._data = data or config.Data(collection=self.COLLECTION)
        if self._data.collection != self.COLLECTION:
            raise ValueError(f"data.collection = {self._data.collection!r}: must be {self.COLLECTION!r}")
        self._contents = contents
        super().__init__(**{"file_format": "array_record", **kwargs})

    def _info(self) -> tfds.core.DatasetInfo:
        texts = {name: tfds.features.Text() for name in _TEXTS}
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "mask": tfds.features.Text(),
            "malignant": np.int32,
            "age": np.float32,
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{self.TITLE}: dermoscopic images, lesion masks and diagnoses.",
            features=tfds.features.FeaturesDict({**features, **texts}),
            homepage=self.ADDRESS,
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager
        return {SPLIT: self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        contents = self._contents or collection.collect(self._data)
        if contents.problems and self._data.on_error == "raise":
            raise collection.refusal(contents.problems, listed_in="`collection.collect(data).problems`")

        stored = collection.in_threads(lambda record: images.encoded(record, self._data.max_side), contents.records)
        examples = zip(contents.records, contents.groups, stored, strict=True)
        for position, (record, group, (image, mask)) in enumerate(examples):
            yield (
                position,
                {
                    "image": io.BytesIO(image),  # an array would need TensorFlow
                    "mask": mask,
                    "malignant": record.malignant,
                    "age": record.age,
                    "group": group,
                    **{name: getattr(record, name) for name in _TEXTS if name != "group"},
                },
            )


class Synthetic(_Builder):
    """Drawn lesions."""

    COLLECTION, TITLE, ADDRESS = "synthetic", synthetic.TITLE, synthetic.ADDRESS


class Ham10000(_Builder):
    """HAM10000."""

    COLLECTION, TITLE, ADDRESS = "ham10000", ham10000.TITLE, ham10000.ADDRESS


class Isic2019(_Builder):
    """ISIC 2019, training part."""

    COLLECTION, TITLE, ADDRESS = "isic2019", isic2019.TITLE, isic2019.ADDRESS


class Isic2020(_Builder):
    """ISIC 2020, training part."""

    COLLECTION, TITLE, ADDRESS = "isic2020", isic2020.TITLE, isic2020.ADDRESS


BUILDERS = {builder.COLLECTION: builder for builder in (Synthetic, Ham10000, Isic2019, Isic2020)}
