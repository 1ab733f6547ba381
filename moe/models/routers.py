"""The routers behind `--routing`: who is asked in training and at evaluation, and how they run.

Each is a pair of ways made of the pure functions of `moe.routing`; `ROUTERS` is the table of all.
Formulas, sources and when to use which: `docs/routers.md`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import tensorflow as tf

from moe import randomness, routing
from moe.config.sections import TrainConfig
from moe.types import Gating, Routing

Choose = Callable[[Gating], Routing]


class Way(NamedTuple):
    """How a batch goes through the experts.

    Attributes:
      choose: from what the gate says to a `Routing`.
      execute: `routing.run_dense`, `run_routed` (only the chosen experts run) or `run_fixed`.
      experts: how many run for an example, on average; None: all.
    """

    choose: Choose
    execute: Callable
    experts: float | None = None

    def running(self, num_experts: int) -> float:
        """How many of `num_experts` run for an example, on average."""
        return num_experts if self.experts is None else min(self.experts, num_experts)


class Ways(NamedTuple):
    """How a mixture routes: a router.

    Attributes:
      train: may draw at random, drop examples and let them depend on each other.
      evaluate: does nothing of that: an answer depends on its own example alone.
      stands_in: whether in training the fallback stands in for experts that did not run
        (`losses.stand_in_log_probs`): where one runs, its renormalised weight is 1, from
        which no gate learns.
      noisy: whether training adds learned noise, and so knows a smooth load.
    """

    train: Way
    evaluate: Way
    stands_in: bool = False
    noisy: bool = False


class Options(NamedTuple):
    """What a router may be asked for; each takes what concerns it.

    Attributes:
      top_k: K of those that choose K experts.
      balanced: the gate keeps a balance bias.
      capacity_factor: rows that an expert has room for in training, over its fair share.
      fixed: training runs in fixed shapes, and drops what exceeds the room.
      gate_threshold: at evaluation, soft routing spares experts that the gate gives less.
    """

    top_k: int = 1
    balanced: bool = False
    capacity_factor: float = TrainConfig.capacity_factor
    fixed: bool = False
    gate_threshold: float = 0.0


def make_router(name: str, top_k: int = 1, **options) -> Ways:
    """The router called `name`, a key of `ROUTERS`, with `Options` by name."""
    return ROUTERS[name](Options(top_k, **options))


def everyone(gating: Gating) -> Routing:
    """All experts, weighted by the gate."""
    return routing.route_soft(gating.log_probs)


def favourite_alone(gating: Gating) -> Routing:
    """The expert of the highest score alone."""
    return routing.route_hard(gating.scores)


EVERYONE = Way(everyone, routing.run_dense)
"""Soft routing, the only one that needs no decision."""


def routed_way(choose: Choose, experts: int = 1, capacity_factor: float | None = None) -> Way:
    """Runs the chosen experts only.

    Args:
      choose: picks `experts` of them for an example.
      experts: K.
      capacity_factor: where given, in fixed shapes and with that limit; None: in shapes as they
        come.
    """
    if capacity_factor is None:
        return Way(choose, routing.run_routed, experts)

    def limited(gating: Gating) -> Routing:
        num_experts = gating.log_probs.shape[1]
        return routing.limit_capacity(choose(gating), num_experts, capacity_factor)

    execute = functools.partial(routing.run_fixed, factor=capacity_factor)
    return Way(limited, execute, experts)


# --- the table ----------------------------------------------------------------------------------


def _soft(options: Options) -> Ways:
    """Jacobs et al. 1991."""
    if not options.gate_threshold:
        return Ways(EVERYONE, EVERYONE)

    def above(gating: Gating) -> Routing:
        return routing.route_above(gating.log_probs, options.gate_threshold)

    return Ways(EVERYONE, Way(above, routing.run_routed))


def _hard(options: Options) -> Ways:
    """One expert, drawn from the gate in training; with a balance bias it is the best score.

    The draw has every expert tried; a bias sees to that by itself, and has to be trained on the
    choice that it will make.
    """

    def drawn(gating: Gating) -> Routing:
        uniform = randomness.example_uniform(*_shape(gating))
        return routing.route_sampled(gating.log_probs, uniform)

    train = _trained(favourite_alone if options.balanced else drawn, 1, options)
    return Ways(train, routed_way(favourite_alone), stands_in=True)


def _top_k(options: Options) -> Ways:
    """The K best scores (GShard, 2006.16668); with one expert it is `hard`."""
    if options.top_k == 1:
        return _hard(options)
    best = _best(options.top_k)
    return Ways(_trained(best, options.top_k, options), routed_way(best, options.top_k))


def _noisy_top_k(options: Options) -> Ways:
    """The K best of the gate's logits with learned noise; evaluation adds none."""
    k = options.top_k

    def noisy(gating: Gating) -> Routing:
        normal = randomness.example_normal(*_shape(gating))
        return routing.route_noisy_top_k(gating.log_probs, gating.deviation, normal, k)

    return Ways(_trained(noisy, k, options), routed_way(_best(k), k), stands_in=k == 1, noisy=True)


def _expert_choice(options: Options) -> Ways:
    """Every expert takes its best examples of the batch; evaluation is soft."""
    factor = options.capacity_factor

    def taken(gating: Gating) -> Routing:
        return routing.route_expert_choice(gating.log_probs, factor)

    execute = routing.run_routed
    if options.fixed:
        execute = functools.partial(routing.run_fixed, factor=factor, experts=1)
    return Ways(Way(taken, execute, factor), EVERYONE, stands_in=True)


ROUTERS: Mapping[str, Callable[[Options], Ways]] = {
    "soft": _soft,
    "hard": _hard,
    "topk": _top_k,
    "noisy_topk": _noisy_top_k,
    "expert_choice": _expert_choice,
}


def _best(k: int) -> Choose:
    def best(gating: Gating) -> Routing:
        return routing.route_top_k(gating.log_probs, k, gating.scores)

    return best


def _trained(choose: Choose, experts: int, options: Options) -> Way:
    return routed_way(choose, experts, options.capacity_factor if options.fixed else None)


def _shape(gating: Gating):
    """Examples and experts; the first may be known only when it runs."""
    return tf.shape(gating.log_probs)[0], gating.log_probs.shape[1]
