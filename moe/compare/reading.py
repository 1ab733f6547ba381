"""Rows that are there: read, and believed only where what they say fits together."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Iterable

from moe.compare.arms import ARMS
from moe.compare.record import FORMAT, Calibration, Record, unpack
from moe.config.specs import read_budget
from moe.errors import UserError
from moe.evaluate.metrics import ECE_BINS
from moe.files import read_json
from moe.typed import check

_WAY_OUT = "Without the file the row is made again."


def read_record(path: pathlib.Path) -> Record:
    """A row that is already there.

    Raises:
      UserError: it is damaged, or another version wrote it.
    """
    try:
        record = read_json(path)
    except UserError as error:
        raise UserError(f"{error} {_WAY_OUT}") from error
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
        check_sense(record)
    except ValueError as error:
        raise UserError(
            f"{path}: is damaged, or another version wrote it ({error}). {_WAY_OUT}"
        ) from error
    return record


def check_sense(record: Record) -> None:
    """Checks that what a row says fits together and can be.

    Raises:
      ValueError: names what does not.
    """
    if ARMS.get(record["arm"]) != (record["kind"], record["mode"], record["routing"]):
        raise ValueError(f"there is no such arm as {record['arm']} is here")
    if ("backbone" in record) == (record["kind"] == "mixture"):
        raise ValueError("a control has a backbone, a mixture has several")
    try:
        read_budget(record["budget"])
    except UserError as error:
        raise ValueError(f"budget: {error}") from error
    unknown = sorted(set(record.get("possible", ())) - set(ARMS))
    if unknown:
        raise ValueError(f"possible names {unknown[0]}, which is no arm")
    correct = unpack(record["correct"])
    if not len(correct) == record["examples"]["test"] > 0:
        raise ValueError("correct and examples.test say different things")
    copies = record["correct"].get("copies", 1)
    if copies < 1 or len(correct) % copies:
        raise ValueError("correct.copies does not divide correct.count")
    for split in ("validation", "test"):
        scores = record[split]
        if None in (scores["accuracy"], scores["nll"], scores["ece"]):
            raise ValueError(f"{split} has no accuracy, nll or ece")
        _check_shares(split, [scores["accuracy"], scores["ece"]])
        if scores["nll"] < 0:
            raise ValueError(f"{split}.nll is below 0")
    if abs(correct.mean() - record["test"]["accuracy"]) > 1e-9:
        raise ValueError("correct and test.accuracy say different things")
    experts = record["parts"].get("experts", {})
    alone = [part for name, part in record["parts"].items() if name != "experts"]
    _check_shares("parts", [part["accuracy"] for part in (*alone, *experts.values())])
    _check_bins(record["calibration"], len(correct))
    for name, value in record["routing_metrics"].items():
        if isinstance(value, list) != (name == "load"):
            raise ValueError(f"routing_metrics.{name} is {value!r:.40}")
    counts = {key: record[key] for key in ("networks", "macs_spent", "train_seconds")}
    for key in ("params", "macs_per_example"):
        counts |= {f"{key}.{name}": value for name, value in record[key].items()}
    below = [key for key, value in counts.items() if value < 0]
    if below:
        raise ValueError(f"{below[0]} is below 0")
    if not all(amount > 0 for amount in record["examples"].values()):
        raise ValueError("examples has a split without any")
    if not record["stages"]:
        raise ValueError("it has no stages")
    for stage in record["stages"]:
        if not (stage["epochs"] > 0 and 0 <= stage["best_epoch"] <= math.ceil(stage["epochs"])):
            raise ValueError(f"epochs of stage {stage['name']} cannot be")


def _check_shares(place: str, values: Iterable[float | None]) -> None:
    """Raises ValueError where one of them is there and no share of examples."""
    if not all(0 <= value <= 1 for value in values if value is not None):
        raise ValueError(f"{place} holds what is no share")


def _check_bins(bins: Calibration, count: int) -> None:
    """Raises ValueError where bins are not those of so many examples."""
    if {len(bins[key]) for key in Calibration.__annotations__} != {ECE_BINS}:
        raise ValueError(f"calibration does not have {ECE_BINS} bins")
    if sum(bins["count"]) != count:
        raise ValueError(f"calibration is not of {count} examples")
    for key in ("accuracy", "confidence"):
        if [value is None for value in bins[key]] != [n == 0 for n in bins["count"]]:
            raise ValueError(f"calibration.{key} does not fit its count")
        _check_shares(f"calibration.{key}", bins[key])
