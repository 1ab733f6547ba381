"""Sets that TFDS itself prepares, small and of our own making, to be read as any other one."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow_datasets as tfds


def prepare(
    root: pathlib.Path,
    name: str,
    splits: Mapping[str, Iterable[tuple[np.ndarray, int]]],
    *,
    classes: Iterable[str],
    image: tfds.features.FeatureConnector | None = None,
    version: str = "1.0.0",
    **more: tfds.features.FeatureConnector,
) -> None:
    """Writes a set into `root`, as `download_and_prepare` does it.

    Args:
      root: what is given as `--data_dir` then.
      name: of the set; that of a real one makes TFDS read it with that one's code.
      splits: image and label of every example.
      classes: names, in label order.
      image: the feature; images of any size if None.
      version: of the set.
      **more: further features, filled with zeros.
    """
    features = {
        "image": image or tfds.features.Image(shape=(None, None, 3)),
        "label": tfds.features.ClassLabel(names=classes),
        **more,
    }

    set_name = name

    class Written(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        """As somebody's own set: TFDS finds it by its files alone."""

        name = set_name
        VERSION = tfds.core.Version(version)

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(features),
                supervised_keys=("image", "label"),
                disable_shuffling=True,
            )

        def _split_generators(self, download_manager):
            return {split: self._generate_examples(split) for split in splits}

        def _generate_examples(self, split):
            for number, (image, label) in enumerate(splits[split]):
                rest = dict.fromkeys(more, 0)
                yield number, {"image": image, "label": label, **rest}

    Written(data_dir=root).download_and_prepare()
