"""How large the controls are: as much computed for an example, or as many weights, as a mixture."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping

from moe.compare.arms import ARMS, TOLERANCE, in_parts, possible_arms
from moe.config.choices import ROUTINGS
from moe.config.sections import ModelConfig
from moe.errors import UserError, warn
from moe.models import backbones, cost
from moe.models.mixture import MixtureOfExperts
from moe.models.routers import make_router
from moe.models.starts import Whitening

_GRID = 1e-4
"""Widths are tried in steps of this: a network's size changes in steps, too."""


def arms_for(model: ModelConfig, named: bool) -> list[str]:
    """The arms that these networks can have; `named`: whether every example has a known group.

    Raises:
      UserError: there is no backbone of the experts' name.
    """
    any_width = backbones.has_widths(model.expert_backbone)
    return possible_arms(in_parts(model, named), any_width)


def running_experts(routing: str, num_experts: int) -> float:
    """How many experts run for an example under `soft` or `hard` at evaluation."""
    if routing not in ROUTINGS:
        raise ValueError(f"no mixture routes {routing!r}")
    return make_router(routing).evaluate.running(num_experts)


def members(mixture: MixtureOfExperts) -> dict[str, int]:
    """By arm, as many networks as the mixture runs: gate, experts, and a baseline in the blend."""
    always = 1 + mixture.blends
    return {
        name: always + round(running_experts(arm.routing, mixture.num_experts))
        for name, arm in ARMS.items()
        if arm.kind == "average"
    }


def wide_backbones(
    arms: Collection[str], backbone: str, input_shape: tuple[int, ...], mixture: MixtureOfExperts
) -> dict[str, str]:
    """For those of `arms` that are wide networks, the name of `backbone` at the width that makes it
    as large as the mixture.
    """
    found: dict[str, str] = {}
    for name, target in targets(mixture).items():
        if name not in arms:
            continue
        measure = cost.macs if ARMS[name].routing else cost.parameters

        @functools.cache
        def size(width_name: str, measure=measure) -> int:
            return measure(backbones.build(width_name, input_shape, mixture.num_classes))

        found[name] = widened(backbone, target, size)
        off = size(found[name]) / target - 1
        if abs(off) > TOLERANCE:
            warn(
                f"{name}: the width nearest to the mixture's size, {found[name]}, misses it by "
                f"{100 * off:+.1f} %."
            )
    return found


def check_whitened(wide: Mapping[str, str], input_shape: tuple[int, ...], num_classes: int) -> None:
    """Refuses, before anything is trained, wide networks whose first layer cannot whiten.

    Args:
      wide: as `wide_backbones` finds them.

    Raises:
      UserError: one cannot, see `Whitening`.
    """
    for name, backbone in wide.items():
        try:
            Whitening([backbones.build(backbone, input_shape, num_classes)])
        except UserError as error:
            raise UserError(
                f"{name} would be {backbone}: {error} Leave it out of --arms, or use --nowhiten."
            ) from error


def targets(mixture: MixtureOfExperts) -> Mapping[str, int]:
    """By arm, the MACs an example, or without a routing the weights, that it should have."""
    every = cost.active_cost(mixture, mixture.num_experts)
    return {
        name: cost.active_cost(mixture, running_experts(arm.routing, mixture.num_experts)).macs
        if arm.routing
        else every.parameters
        for name, arm in ARMS.items()
        if arm.kind == "wide"
    }


def widened(backbone: str, target: int, size: Callable[[str], int]) -> str:
    """The name of `backbone` at the width whose size is nearest to `target`.

    Args:
      backbone: a name for `moe.models.backbones.find`, with or without a factor of its own.
      target: the size to reach.
      size: of the network of a name; never falls as the width grows.

    Raises:
      UserError: the backbone has but one width.
    """
    plain, _, factor = backbone.partition("*")

    def name(step: int) -> str:
        return f"{plain}*{step * _GRID * float(factor or 1):.6g}"

    low, high = 0, round(1 / _GRID)
    while size(name(high)) < target:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(name(middle)) < target else (low, middle)
    below = [low] if low else []
    return min((name(step) for step in (*below, high)), key=lambda n: abs(size(n) - target))
