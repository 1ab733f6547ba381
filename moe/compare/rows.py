"""The folder of a comparison's rows: all of one setting, and tested on the same examples."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

from moe.compare.arms import check_seeds
from moe.compare.reading import read_record
from moe.compare.record import Record
from moe.config.identity import identity_differences
from moe.config.run import Config
from moe.config.specs import read_budget
from moe.errors import UserError


def read_rows(
    folder: pathlib.Path, base: Config | None = None, data: str | None = None
) -> list[Record]:
    """All rows of a comparison.

    Args:
      folder: where they are, a file each.
      base: what they must have in common; where none is given, what the first of them has.
      data: digest of the data, likewise.

    Raises:
      UserError: one is damaged, another version wrote it, or it is of another comparison.
    """
    rows = {path: read_record(path) for path in sorted(folder.glob("*.json"))}
    if rows:
        base = base or _config_of(*next(iter(rows.items())))
        data = data or next((row["data"] for row in rows.values() if "data" in row), "")
        for path, row in rows.items():
            check_same_setting(path, row, base, data)
        named = {str(path): row for path, row in rows.items()}
        check_same_test({name: row["correct"] for name, row in named.items()})
        check_same_arm(named)
        check_seeds(row["seed"] for row in rows.values())
    return list(rows.values())


def check_same_setting(path: pathlib.Path, record: Record, base: Config, data: str) -> None:
    """Refuses a row of another comparison.

    Args:
      path: where it is.
      record: the row.
      base: what all rows have in common.
      data: digest of the data that they have in common.

    Raises:
      UserError: it is one, or of another version.
    """
    config = _config_of(path, record)
    differences = identity_differences(config, base)
    trained = config.train.budget
    if trained is not None and read_budget(trained) != read_budget(record["budget"]):
        differences.append(f"budget is {record['budget']}, in its config {trained}")
    if not differences and record.get("data", data) != data:
        differences = ["other examples, groups or class weights behind the same flags"]
    if differences:
        raise UserError(
            f"{path}: is a row of another comparison: {', '.join(differences)}; use another "
            "--results, or the flags of that one."
        )


def _config_of(path: pathlib.Path, record: Record) -> Config:
    try:
        return Config.from_dict(record["config"])
    except UserError as error:
        raise UserError(
            f"{path}: is a row of another version; use that version, or another --results ({error})"
        ) from error


def check_same_test(tested: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuses rows that were tested on different examples behind the same flags.

    Args:
      tested: what `Correct` says of the examples, by what it is that says so.

    Raises:
      UserError: names two of them.
    """
    told = {name: {"copies": 1, **found} for name, found in tested.items()}
    for key in ("count", "labels", "examples", "copies"):
        noted = {name: found[key] for name, found in told.items() if key in found}
        first = next(iter(noted), "")
        for name, value in noted.items():
            if value != noted[first]:
                raise UserError(
                    f"{name}: was tested on other examples than {first}; use another --results, or "
                    "the test split of that one."
                )


def check_same_arm(rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuses rows of one arm that were made for other groups or examples, or whose networks are
    others behind the same flags, as those of another version or of an edited file may be.

    Args:
      rows: by what they are called; of a `Record` what is known.

    Raises:
      UserError: names two of them.
    """
    first: dict[str, str] = {}
    for name, row in rows.items():
        other = first.setdefault(row["arm"], name)
        for key in ("backbone", "networks", "params", "macs_per_example", "groups", "examples"):
            if key in row and row[key] != rows[other][key]:
                raise UserError(
                    f"{name}: differs from {other}, a row of the same arm, in {key}: "
                    f"{_shown(row[key])}; there {_shown(rows[other][key])}. Another version made "
                    "it, or a file has changed; use another --results."
                )


def _shown(value: Any) -> str:
    """What a row says of its networks, on a line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{amount:,} {what}" for what, amount in value.items())
    return ", ".join(value) if isinstance(value, list) else str(value)
