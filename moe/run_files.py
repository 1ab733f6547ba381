"""What a run left in its folder, checked when it is read back."""

# No `from __future__ import annotations`, as in `moe.typed`.

import math
import pathlib
from typing import Any, NamedTuple, NotRequired, TypedDict

from moe.config.choices import PRECISIONS
from moe.config.run import Config
from moe.errors import UserError
from moe.files import is_there, read_json
from moe.typed import check

_MOST_FEATURES = 2**28
"""Of one example: an image of 9,000 x 9,000."""


class Scores(TypedDict):
    """Of answers on one split; None where a run's mode has no answers."""

    accuracy: float | None
    nll: float | None
    ece: float | None
    macro_f1: NotRequired[float]


class Part(TypedDict):
    """One network by itself; None where nothing can be said."""

    accuracy: float | None


class Parts(TypedDict, total=False):
    """The networks that were trained."""

    baseline: Part
    gate: Part
    experts: dict[str, Part]


class RoutingMetrics(TypedDict, total=False):
    """How examples are spread over experts; empty where nothing is routed."""

    load: list[float]
    entropy: float
    mutual_information: float


class Size(TypedDict):
    """Parameters or MACs: of everything, and of what runs for one example."""

    total: int
    active: int


class Throughput(TypedDict):
    """None where the loops took no time."""

    examples_per_second: float | None


class Finding(TypedDict):
    """What went wrong with a mixture, as the health watch saw it."""

    epoch: int
    stage: str
    condition: str
    expert: str
    message: str


class Results(TypedDict):
    """What the programs need of `results.json`."""

    dataset: str
    note: str
    mode: str
    routing: str
    classes: list[str]
    groups: list[str]
    precision: str
    device: str
    seed: int
    test: Scores
    parts: Parts
    routing_metrics: RoutingMetrics
    params: Size
    macs_per_example: Size
    macs_spent: float
    train_seconds: float
    health: NotRequired[list[Finding]]
    throughput: Throughput


class StoredData(TypedDict, total=False):
    """What a run relies on in its data; an older version did not note down all of it.

    Attributes:
      classes: L names.
      input_shape: of one example's features.
      train_examples, validation_examples: how many there are.
      table: how raw table rows become features (`moe.data.table.Table.to_dict`), or None.
      contents: SHA-256 of all examples of its training split.
      mirrors: as of `moe.data.source.Source`.
    """

    classes: list[str]
    input_shape: list[int]
    train_examples: int
    validation_examples: int
    table: dict | None
    mirrors: bool
    contents: str


class _Stored(TypedDict):
    config: dict
    precision: str
    groups: NotRequired[dict[str, list[str]]]
    class_weights: NotRequired[dict[str, float]]
    data: NotRequired[StoredData]
    initial: NotRequired[dict[str, str]]
    threads: NotRequired[int]


class StoredRun(NamedTuple):
    """A run as `config.json` has it; None is what an older version did not note down.

    Attributes:
      config: fully resolved.
      precision: the dtype policy of the networks.
      groups: classes by group, in the order of the experts.
      class_weights: the weight of each class; empty where all count the same.
      data: what it relies on in its data.
      initial: for each part that did not start at random, the `RUN:PART` it started from.
      threads: how many an operation could use.
    """

    config: Config
    precision: str
    groups: dict[str, list[str]] | None = None
    class_weights: dict[str, float] | None = None
    data: StoredData | None = None
    initial: dict[str, str] | None = None
    threads: int | None = None


def read_results(workdir: pathlib.Path) -> Results:
    """The results of a finished run.

    Raises:
      UserError: they are missing or damaged.
    """
    return read_results_file(workdir / "results.json")


def read_results_file(path: pathlib.Path) -> Results:
    """The same of a file that may have been given another name.

    Raises:
      UserError: it is missing or damaged.
    """
    return _read(path, Results)


def find_run(workdir: pathlib.Path, flag: str = "workdir") -> StoredRun:
    """What identifies the run in `workdir`, which `flag` named.

    Raises:
      UserError: there is none, or its file is damaged.
    """
    if not is_there(workdir / "config.json"):
        raise UserError(f"--{flag}={workdir}: no run there (config.json is missing).")
    return read_run(workdir)


def read_run(workdir: pathlib.Path) -> StoredRun:
    """What identifies a run.

    Raises:
      UserError: the file is missing or damaged, or another version wrote it.
    """
    path = workdir / "config.json"
    stored = _read(path, _Stored)
    if stored["precision"] not in PRECISIONS:
        raise UserError(f"{path}: is damaged (precision is {stored['precision']!r:.40}).")
    shape = stored.get("data", {}).get("input_shape", [1])
    if min(shape, default=1) < 1 or math.prod(shape) > _MOST_FEATURES:
        # The first layer of a network would be as large.
        raise UserError(f"{path}: is damaged (an example has the shape {shape}).")
    try:
        config = Config.from_dict(stored["config"])
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    names = ("groups", "class_weights", "data", "initial", "threads")
    return StoredRun(config, stored["precision"], *map(stored.get, names))


def _read(path: pathlib.Path, kind: type) -> Any:
    content = read_json(path)
    try:
        check(content, kind, path.stem)
    except ValueError as error:
        raise UserError(f"{path}: is damaged, or another version wrote it ({error}).") from error
    return content
