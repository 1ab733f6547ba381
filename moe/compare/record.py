"""The small JSON that a finished row leaves: all that tables and tests need, and no more.

It takes a byte for every 6 test examples, up to 250 for every group, and 3 to 5 KB: less than 20 KB
for 50,000 examples and ten groups.
"""

# No `from __future__ import annotations`, as in `moe.typed`.

import base64
import pathlib
from typing import Any, NotRequired, TypedDict

import numpy as np

from moe.compare.arms import ARMS
from moe.config.run import Config
from moe.errors import UserError
from moe.evaluate.metrics import ECE_BINS
from moe.files import read_json, write_json
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
    runs: dict[str, dict]
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


def read_record(path: pathlib.Path) -> Record:
    """A row that is already there.

    Raises:
      UserError: it is damaged, or another version wrote it.
    """
    record = read_json(path)
    if not isinstance(record, dict) or not {"format", "arm"} & set(record):
        raise UserError(
            f"{path}: is no row of a comparison; --results needs a folder for rows alone."
        )
    try:
        check(record, Record, path.stem)
        if record["format"] != FORMAT:
            raise ValueError(f"format is {record['format']}")
        if path.stem != f"{record['arm']}-seed{record['seed']}":
            raise ValueError(f"it holds {record['arm']}, seed {record['seed']}")
        if ARMS.get(record["arm"]) != (record["kind"], record["mode"], record["routing"]):
            raise ValueError(f"there is no such arm as {record['arm']} is here")
        correct = unpack(record["correct"])
        if not len(correct) == record["examples"]["test"] > 0:
            raise ValueError("correct and examples.test say different things")
        copies = record["correct"].get("copies", 1)
        if copies < 1 or len(correct) % copies:
            raise ValueError("correct.copies does not divide correct.count")
        if None in (record["validation"]["accuracy"], record["test"]["accuracy"]):
            raise ValueError("it has no accuracy")
        if abs(correct.mean() - record["test"]["accuracy"]) > 1e-9:
            raise ValueError("correct and test.accuracy say different things")
        if ("backbone" in record) == (record["kind"] == "mixture"):
            raise ValueError("a control has a backbone, a mixture has several")
        if not set(record.get("possible", ())) <= set(ARMS):
            raise ValueError("an arm of possible is none")
        _check_bins(record["calibration"], len(correct))
        if not all(stage["epochs"] > 0 for stage in record["stages"]):
            raise ValueError("a stage has no epochs")
    except ValueError as error:
        raise UserError(
            f"{path}: is damaged, or another version wrote it ({error}); without the file the row "
            "is made again."
        ) from error
    return record


def _check_bins(bins: Calibration, count: int) -> None:
    """Raises ValueError where bins are not those of so many examples."""
    if {len(bins[key]) for key in Calibration.__annotations__} != {ECE_BINS}:
        raise ValueError(f"calibration does not have {ECE_BINS} bins")
    if sum(bins["count"]) != count:
        raise ValueError(f"calibration is not of {count} examples")
    for key in ("accuracy", "confidence"):
        if [value is None for value in bins[key]] != [n == 0 for n in bins["count"]]:
            raise ValueError(f"calibration.{key} does not fit its count")
