"""The small JSON that a finished row leaves: all that tables and tests need, and no more.

It takes a byte for every 6 test examples, up to 250 for every group, and 3 to 5 KB: less than 20 KB
for 50,000 examples and ten groups.
"""

# No `from __future__ import annotations`, as in `moe.typed`.

import base64
import pathlib
from typing import Any, NotRequired, TypedDict

import numpy as np

from moe.config.run import Config
from moe.files import write_json
from moe.run_files import Parts, Scores, Size
from moe.typed import check

FORMAT = 1


class Correct(TypedDict):
    """Which test examples were answered right.

    Attributes:
      count: how many there are.
      bits: one each, packed by `numpy.packbits`, in base64.
      labels: digest of the labels, so that only answers to the same examples are paired.
      examples: digest of the examples, labels and all; an older version did not note it down.
      copies: how many times each example is there, see `moe.data.source.Source`; where it is not
        said, once.
    """

    count: int
    bits: str
    labels: str
    examples: NotRequired[str]
    copies: NotRequired[int]


class Calibration(TypedDict):
    """By bin of the highest probability, see `moe.evaluate.metrics.calibration_bins`."""

    count: list[int]
    accuracy: list[float | None]
    confidence: list[float | None]


class Sizes(TypedDict):
    """How many examples each split has."""

    train: int
    validation: int
    test: int


class StageTold(TypedDict):
    """A stage of one of a row's runs.

    Attributes:
      run: the name of its folder.
      name: of the stage.
      epochs: that it took, a whole number or not.
      best_epoch: whose weights were the best on validation; 0 are those that it started from.
      steps: that it took.
      seconds: of training.
      macs: multiply-accumulates spent.
    """

    run: str
    name: str
    epochs: float
    best_epoch: int
    steps: int
    seconds: float
    macs: float


class RunTold(TypedDict):
    """One of a row's runs; an older version did not note its device down."""

    macs_spent: float
    train_seconds: float
    device: NotRequired[str]
    revision: str | None


class Record(TypedDict):
    """One row. Sums over its runs take each arm by itself: what it shares, it has paid for, too.

    `data` is a digest of all that files may change behind the flags, `possible` are the names of
    all arms that there are with these flags; an older version noted neither down. `device` is what
    its runs were trained on, the rest of where it comes from is of its evaluation.
    """

    format: int
    arm: str
    kind: str
    mode: str
    routing: str
    seed: int
    dataset: str
    note: str
    groups: list[str]
    budget: str
    backbone: NotRequired[str]
    networks: int
    examples: Sizes
    validation: Scores
    test: Scores
    correct: Correct
    calibration: Calibration
    params: Size
    macs_per_example: Size
    macs_spent: float
    train_seconds: float
    runs: dict[str, RunTold]
    stages: list[StageTold]
    parts: Parts
    routing_metrics: dict[str, float | list]
    precision: str
    device: str
    command: str
    versions: dict[str, str]
    revision: str | None
    config: dict
    data: NotRequired[str]
    possible: NotRequired[list[str]]


def pack(correct: np.ndarray) -> str:
    """`<bool>[N]` as text of N / 6 characters."""
    return base64.b64encode(np.packbits(correct).tobytes()).decode("ascii")


def unpack(correct: Correct) -> np.ndarray:
    """The inverse: `<bool>[N]`.

    Raises:
      ValueError: the text does not hold so many.
    """
    bits = np.frombuffer(base64.b64decode(correct["bits"], validate=True), np.uint8)
    if len(bits) != -(-correct["count"] // 8):
        raise ValueError(f"correct holds {len(bits)} bytes for {correct['count']} examples")
    return np.unpackbits(bits, count=correct["count"]).astype(bool)


def portable(config: Config) -> dict[str, Any]:
    """A configuration without what concerns one machine only."""
    values = config.to_dict()
    values["data"]["data_dir"] = values["runtime"]["workdir"] = None
    return values


def write_record(path: pathlib.Path, record: Record) -> None:
    """Writes the row, whole or not at all.

    Raises:
      UserError: the disk does not take it.
    """
    check(record, Record, path.stem)
    write_json(path, record, indent=None)
