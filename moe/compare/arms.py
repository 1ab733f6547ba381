"""What `--mode=compare` puts side by side: mixtures, and what keeps a comparison honest."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from moe.config.sections import ModelConfig
from moe.errors import UserError


class Arm(NamedTuple):
    """One way to train and to answer.

    Attributes:
      kind: `mixture`; `baseline`, the small network by itself; `wide`, one network as large as the
        mixture; `average`, of several baselines.
      mode: how it is trained; a wide network in mode `staged` has a last stretch at the rate of
        that mode's joint stage, as long as that one.
      routing: of a mixture; of a control the routing whose cost it has; `""`: none.
    """

    kind: str
    mode: str
    routing: str = ""


ARMS: Mapping[str, Arm] = {
    "baseline": Arm("baseline", "baseline"),
    "separate-hard": Arm("mixture", "separate", "hard"),
    "separate-soft": Arm("mixture", "separate", "soft"),
    "joint-hard": Arm("mixture", "joint", "hard"),
    "wide-hard": Arm("wide", "baseline", "hard"),
    "joint-soft": Arm("mixture", "joint", "soft"),
    "wide-soft": Arm("wide", "baseline", "soft"),
    "staged-hard": Arm("mixture", "staged", "hard"),
    "staged-soft": Arm("mixture", "staged", "soft"),
    "tuned-hard": Arm("wide", "staged", "hard"),
    "tuned-soft": Arm("wide", "staged", "soft"),
    "average-hard": Arm("average", "baseline", "hard"),
    "average-soft": Arm("average", "baseline", "soft"),
    "wide-params": Arm("wide", "baseline"),
}
"""In the order in which a seed's rows are made: what tells most comes first."""
_LAST = ("wide-params",)
"""Made after all other rows of all seeds: one of them may cost as much as the rest of its seed."""
TOLERANCE = 0.02
"""Share by which a control may miss the size of the mixture and still be as large."""
MEMBER_STRIDE = 1000
"""The baselines that row `seed` of an average takes are those of `seed`, `seed + 1000`, …"""
TUNING_SEED = 999 * MEMBER_STRIDE
"""What is added to the seed of a row for the last stretch of a wide network, so that it does not go
through the batches and masks of the first one again."""


def in_parts(model: ModelConfig, named: bool) -> bool:
    """Whether a mixture can be trained part by part: an expert needs a group that has a name, a
    trunk needs a baseline that trains it.

    Args:
      model: what the mixture is made of.
      named: whether every example has a known group.
    """
    return named and (model.baseline or not model.trunk)


def possible_arms(by_parts: bool, any_width: bool) -> list[str]:
    """The arms that there are.

    Args:
      by_parts: a mixture can be trained so, see `in_parts`; where not, only `joint` trains one.
      any_width: an expert's network can be had at any width; where not, none is as large as a
        mixture.
    """

    def possible(arm: Arm) -> bool:
        return (by_parts or arm.mode not in ("separate", "staged")) and (
            any_width or arm.kind != "wide"
        )

    return [name for name, arm in ARMS.items() if possible(arm)]


def controls_of(mixture: str) -> list[str]:
    """The arms that keep the mixture called so honest: the baseline, one network with as many run
    MACs, one with as many weights, and as many baselines as it runs networks; of a mixture that is
    tuned at the end one that is tuned as well.
    """
    _, mode, routing = ARMS[mixture]
    return [
        name
        for name, arm in ARMS.items()
        if arm.kind != "mixture" and arm.routing in ("", routing) and arm.mode in ("baseline", mode)
    ]


def mixture_pairs() -> list[tuple[str, str]]:
    """Mixtures that differ in their mode alone, then those that differ in their routing alone."""
    mixtures = {name: arm for name, arm in ARMS.items() if arm.kind == "mixture"}
    pairs = list(itertools.combinations(mixtures, 2))
    return [
        (a, b)
        for same in ("routing", "mode")
        for a, b in pairs
        if getattr(mixtures[a], same) == getattr(mixtures[b], same)
    ]


def check_seeds(seeds: Iterable[int]) -> None:
    """Refuses seeds that lie as far apart as the baselines of an average: two rows that share one
    do not vary as independent ones do.

    Raises:
      UserError: names two of them.
    """
    first: dict[int, int] = {}
    for seed in sorted(set(seeds)):
        other = first.setdefault(seed % MEMBER_STRIDE, seed)
        if other != seed:
            raise UserError(
                f"--seed={seed}: rows of this seed and of {other}, a multiple of {MEMBER_STRIDE} "
                "apart, would average some of the same networks; use another seed."
            )


def in_order(arms: Iterable[str], seeds: Sequence[int]) -> list[tuple[str, int]]:
    """Arms with seeds, in the order in which rows are made."""
    pairs = [(name, seed) for name in ARMS if name in set(arms) for seed in seeds]
    place = list(ARMS).index
    return sorted(pairs, key=lambda pair: (pair[0] in _LAST, pair[1], place(pair[0])))
