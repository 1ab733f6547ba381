"""Groups: which expert an example belongs to. No TensorFlow here."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Mapping, Sequence

import numpy as np

from moe.data.source import Examples, Source
from moe.errors import UserError
from moe.files import is_there, read_own_json

_RESERVED = ("baseline", "blend", "gate", "joint", "trunk", "expert_N", "combiner_N")
"""Names of stages that are no experts, and of parts by their number."""


@dataclasses.dataclass(frozen=True)
class Groups:
    """The experts' names and what each one is for.

    Attributes:
      names: one a expert, in expert order.
      named: True where every example has a known group, so that a gate and experts can be
        trained on it; False where the gate must find its own regions.
      group_of_class: for each class its group, or None where classes are not partitioned.
    """

    names: tuple[str, ...]
    named: bool
    group_of_class: tuple[int, ...] | None = None

    def members(self, classes: Sequence[str]) -> dict[str, list[str]]:
        """`{group: [classes]}`, with empty lists where classes are not partitioned."""
        found: dict[str, list[str]] = {name: [] for name in self.names}
        for group, name in zip(self.group_of_class or (), classes, strict=False):
            found[self.names[group]].append(name)
        return found

    def shares(self, group: np.ndarray) -> list[float] | None:
        """Share of the examples that belong to each group; None where no group is named.

        Args:
          group: `<int32>[N]`, as `of` returns it.
        """
        if not self.named:
            return None
        return (np.bincount(group, minlength=len(self.names)) / len(group)).tolist()

    def of(self, examples: Examples) -> np.ndarray:
        """The reference group of each example, `<int32>[N]`, -1 where there is none."""
        if self.group_of_class is not None:
            return np.asarray(self.group_of_class, np.int32)[examples.label]
        if examples.group is not None:
            return examples.group.astype(np.int32)
        return np.full(len(examples.label), -1, np.int32)


def resolve_groups(
    spec: str, source: Source, stored: Mapping[str, Sequence[str]] | None = None
) -> Groups:
    """Reads `--groups`: `semantic`, `none:K`, `auto:K` or the path of a JSON file.

    Args:
      spec: the value of the flag.
      source: the data set.
      stored: what a run noted down of its groups, or what was found for it; stands for `auto:K`,
        and in for a file that is gone.

    Raises:
      UserError: the data set has no such groups, or the file does not partition its classes.
    """
    if spec == "semantic":
        if source.partition is not None:
            return _partition(source.partition, source.classes, f"the groups of {source.name}")
        if source.example_groups:
            return Groups(names=source.example_groups, named=True)
        raise UserError(
            f"--groups=semantic: {source.name} has no built-in groups; "
            "use --groups=none:K, --groups=auto:K or a JSON file {group: [classes]}."
        )
    if spec.startswith("none:"):
        count = int(spec.removeprefix("none:"))
        return Groups(names=tuple(f"expert_{e}" for e in range(count)), named=False)
    gone = stored is not None and not is_there(pathlib.Path(spec))
    return _partition(stored if gone else _read(spec), source.classes, spec)


def stored_groups(
    members: Mapping[str, Sequence[str]], classes: Sequence[str], named: bool
) -> Groups:
    """The inverse of `Groups.members`.

    Raises:
      UserError: the groups do not partition the classes.
    """
    if any(members.values()):
        return _partition(members, classes, "the stored groups")
    return Groups(names=tuple(members), named=named)


def _read(path: str) -> Mapping[str, Sequence[str]]:
    groups = read_own_json(path, "groups")
    well_formed = isinstance(groups, dict) and all(
        isinstance(members, list) and all(isinstance(m, str) for m in members)
        for members in groups.values()
    )
    if not well_formed:
        raise UserError(f'--groups={path}: must look like {{"group": ["class", …], …}}.')
    return groups


def _partition(groups: Mapping[str, Sequence[str]], classes: Sequence[str], origin: str) -> Groups:
    """Checks that `groups` names every class exactly once."""
    group_of: dict[str, int] = {}
    for number, (group, members) in enumerate(groups.items()):
        if not members:
            raise UserError(f"{origin}: group {group!r} has no class.")
        as_part = re.sub(r"^(expert|combiner)_\d+$", r"\1_N", group)
        if not re.fullmatch(r"\w[\w .-]*", group) or as_part in _RESERVED:
            raise UserError(
                f"{origin}: {group!r} cannot name a group; use letters, digits, space, '.', '-', "
                f"'_', and none of {', '.join(_RESERVED)}."
            )
        for name in members:
            if name not in classes:
                raise UserError(
                    f"{origin}: group {group!r} names {name!r}, which is no class of the data set "
                    f"({', '.join(classes)})."
                )
            if name in group_of:
                raise UserError(f"{origin}: class {name!r} stands there more than once.")
            group_of[name] = number
    missing = [name for name in classes if name not in group_of]
    if missing:
        raise UserError(f"{origin}: no group holds {', '.join(map(repr, missing))}.")
    return Groups(
        names=tuple(groups), named=True, group_of_class=tuple(group_of[name] for name in classes)
    )
