"""A small image set and short runs on it, for tests that really train."""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np
import tensorflow as tf

from moe.config.run import Config
from moe.config.sections import DataConfig, LossConfig, ModelConfig, RuntimeConfig, TrainConfig
from moe.data.source import Examples, Source
from moe.run_folder import begin
from moe.train.checkpoint import CheckpointStore
from moe.train.stages import parts_of, stages_of
from moe.train.state import model_variables
from moe.workspace import open_workspace

CLASSES = ("square", "frame", "bar", "dot", "noise")
PARTITION = {"sharp": CLASSES[:2], "soft": CLASSES[2:]}
TRAIN, TEST = 240, 75


def toy_source(test_opens: bool = True) -> Source:
    """Five easy classes of 8x8x3 images in two groups.

    Args:
      test_opens: False: reading the test split raises, as no training code may do it.
    """

    def test() -> Examples:
        if not test_opens:
            raise AssertionError("the test split was opened")
        return draw(TEST, seed=1)

    return Source(
        name="toy",
        classes=CLASSES,
        train=lambda: draw(TRAIN, seed=0),
        test=test,
        partition=PARTITION,
    )


def draw(size: int, seed: int) -> Examples:
    rng = np.random.default_rng(seed)
    label = rng.permutation(np.arange(size) % len(CLASSES)).astype(np.int32)
    images = rng.integers(0, 90, (size, 8, 8, 3))
    for image, kind in zip(images, label, strict=True):
        image[kind : kind + 3, :, kind % 3] += 120
    return Examples(images.astype(np.uint8), label)


def toy_config(workdir: pathlib.Path, mode: str = "joint", **changes) -> Config:
    """A run of two epochs on the toy set; `changes` are flags by name."""
    sections = {
        "data": DataConfig(dataset="toy", augment="flip"),
        "model": ModelConfig(
            gate_backbone="mlp-8", expert_backbone="mlp-16", baseline_backbone="mlp-16"
        ),
        "loss": LossConfig(),
        "train": TrainConfig(epochs=2, patience=0, batch_size=24, learning_rate=3e-3),
        "runtime": RuntimeConfig(workdir=str(workdir), precision="float32", report=False),
    }
    for name, section in sections.items():
        mine = {f.name for f in dataclasses.fields(section)} & set(changes)
        sections[name] = dataclasses.replace(section, **{n: changes.pop(n) for n in mine})
    if changes:
        raise ValueError(f"no such flags: {sorted(changes)}")
    return Config(mode=mode, **sections)


def untrained_run(workdir: pathlib.Path, mode: str = "joint", **changes) -> pathlib.Path:
    """The folder of a finished run whose weights are random: all that needs no training.

    Args:
      workdir: is made, and returned.
      mode, changes: as in `toy_config`.
    """
    config = toy_config(workdir, mode, **changes)
    workspace = open_workspace(config)
    mixture = workspace.build(tf.distribute.get_strategy(), "float32")
    mixture.fit_inputs(workspace.train.examples.features)
    if mixture.balance_bias is not None:
        mixture.balance_bias.assign(0.05 * tf.range(mixture.num_experts, dtype=tf.float32))
    parts = parts_of(stages_of(workspace.config, workspace.groups, list(mixture.parts())))
    begin(workspace, workdir, config.runtime.precision, False, {})
    weights = model_variables(mixture, parts)
    CheckpointStore(workdir / "best", keep=1).save(1, weights, {"parts": parts})
    return workdir
