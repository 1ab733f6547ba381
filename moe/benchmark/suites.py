"""The questions that `--mode=benchmark` answers: which ways are timed side by side, and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

from moe.benchmark.cases import CROSSOVER_TITLE, GROWTH_TITLE, Case
from moe.benchmark.measure import Arm
from moe.benchmark.mixtures import mixture_arm, routed_step_arm
from moe.benchmark.training import (
    keras_arm,
    matrix_product_arm,
    network_arm,
    pipeline_arm,
)

SPEED, COST, FLOPS, INPUT = "speed", "cost", "GFLOP/s", "input share"


@dataclasses.dataclass(frozen=True)
class Question:
    """A ratio to be measured.

    Attributes:
      text: what it says.
      arm, peer: names of the two ways.
      quantity: `speed` (examples a second of the arm over the peer's), `cost` (seconds an example
        of the arm over the peer's), `GFLOP/s`, or `input share`: the cost where the arm is the
        pipeline alone and the peer the step that it feeds.
    """

    text: str
    arm: str
    peer: str
    quantity: str = SPEED


@dataclasses.dataclass(frozen=True)
class Group:
    """Ways that take turns, and what is asked about them.

    Attributes:
      title: of the table.
      arms: built when called, so that only one group's networks are in memory.
      questions: about these arms.
    """

    title: str
    arms: Callable[[], list[Arm]]
    questions: Sequence[Question]

    def all_arms(self) -> list[Arm]:
        """The arms, and for each of their precisions the matrix product to measure them by."""
        arms = self.arms()
        precisions = dict.fromkeys(
            arm.facts["precision"] for arm in arms if "precision" in arm.facts
        )
        return [*arms, *(matrix_product_arm(precision) for precision in precisions)]


def same_twice(policy: str) -> Group:
    """The very same thing twice: what this machine can tell apart now."""
    return Group(
        "A/A: the same network twice",
        lambda: [
            network_arm(name, "small", policy=policy, batch_size=128, steps=4) for name in "AB"
        ],
        [Question("A / A", "A", "B")],
    )


def figures(policy: str) -> Iterator[Group]:
    """The framework against Keras, against its own parts, and against arithmetic.

    Args:
      policy: Keras dtype policy; one group compares it with float32.
    """
    peak = f"matrix product, {policy}"
    for network in ("small", "deep"):
        yield Group(
            f"training, {network}, batch 128",
            lambda network=network: [
                network_arm("ours", network, policy=policy, batch_size=128, steps=4),
                keras_arm("Keras fit", network, policy=policy, batch_size=128, steps=4),
            ],
            [
                Question(f"training {network}: ours / Keras fit", "ours", "Keras fit"),
                Question(f"training {network}: ours / matrix product", "ours", peak, FLOPS),
            ],
        )
    yield Group(
        "training, fast, batch 512",
        lambda: [
            network_arm("ours", "fast", policy=policy, batch_size=512, steps=1),
            network_arm("stock layers", "fast", policy=policy, batch_size=512, steps=1, stock=True),
            network_arm("ours, float32", "fast", policy="float32", batch_size=512, steps=1),
        ],
        [
            Question("training fast: our layers / stock layers", "ours", "stock layers"),
            Question(f"training fast: {policy} / float32", "ours", "ours, float32"),
        ],
    )
    fed = {"policy": policy, "batch_size": 128, "steps": 4}
    yield Group(
        "input, small, batch 128",
        lambda: [
            network_arm("one cached batch", "small", **fed),
            network_arm("pipeline with flip and crop", "small", augment="flip_crop", **fed),
            pipeline_arm("pipeline alone", "flip_crop", batch_size=128, steps=4),
        ],
        [
            Question(
                "training small: pipeline / one cached batch",
                "pipeline with flip and crop",
                "one cached batch",
            ),
            Question(
                "pipeline alone / step that it feeds",
                "pipeline alone",
                "pipeline with flip and crop",
                INPUT,
            ),
        ],
    )
    base = Case(batch_size=512, precision=policy, phase="evaluate", steps_per_loop=1)
    alone = dataclasses.replace(base, baseline=None)
    for title, case in (
        ("2 experts and baseline", base),
        ("8 experts, no baseline", dataclasses.replace(alone, num_experts=8)),
    ):
        yield Group(
            f"evaluation, {title}, batch 512",
            lambda case=case: [
                mixture_arm("hard, routed", case),
                mixture_arm("hard, dense", dataclasses.replace(case, dispatch="dense")),
            ],
            [Question(f"evaluation, {title}: routed / dense", "hard, routed", "hard, dense")],
        )
    yield Group(
        "evaluation, more experts, batch 512",
        lambda: [
            mixture_arm(f"{count} experts", dataclasses.replace(alone, num_experts=count))
            for count in (2, 16)
        ],
        [Question("a routed example: 16 experts / 2", "16 experts", "2 experts", COST)],
    )
    step = {"policy": policy, "batch_size": 256, "steps": 1}
    yield Group(
        "top-1 training step, deep experts, batch 256",
        lambda: [
            routed_step_arm("one network", "deep", num_experts=1, **step),
            *(
                routed_step_arm(f"{count} experts", "deep", num_experts=count, **step)
                for count in (4, 8)
            ),
            routed_step_arm("dispatch and combine alone", None, num_experts=8, **step),
        ],
        [
            Question("top-1 step: 4 experts / one network", "4 experts", "one network", COST),
            Question("top-1 step: 8 experts / one network", "8 experts", "one network", COST),
            Question(
                "dispatch and combine alone / routed step",
                "dispatch and combine alone",
                "8 experts",
                COST,
            ),
        ],
    )


EXPERT_COUNTS = (1, 2, 4, 8, 16)


def growth(policy: str) -> Iterator[Group]:
    """What an example costs as the number of experts grows: soft, hard-dense, hard-routed."""
    case = Case(baseline=None, batch_size=128, precision=policy, steps_per_loop=1)
    for phase in ("train", "evaluate"):
        cases = {
            f"{dispatch}, {count}": dataclasses.replace(
                case, phase=phase, dispatch=dispatch, num_experts=count
            )
            for count in EXPERT_COUNTS
            for dispatch in ("soft", "dense", "routed")
        }
        yield Group(
            f"{GROWTH_TITLE}{phase}, batch 128",
            lambda cases=cases: [mixture_arm(name, case) for name, case in cases.items()],
            [
                Question(
                    f"{phase}: routed, {count} experts / 1", f"routed, {count}", "routed, 1", COST
                )
                for count in EXPERT_COUNTS[1:]
            ],
        )


CROSSOVER_BATCHES = {"evaluate": (1, 2, 4, 8, 32, 128), "train": (1, 8, 32, 128)}
CROSSOVER_EXPERTS = {"evaluate": ("mlp-64", "tiny", "small", "deep"), "train": ("tiny", "deep")}
"""A step of training takes longer, so fewer of them."""


def crossover(policy: str) -> Iterator[Group]:
    """From which batch size and which cost of an expert on routing pays: 4 experts."""
    for phase, sizes in CROSSOVER_BATCHES.items():
        for network in CROSSOVER_EXPERTS[phase]:
            case = Case(
                gate="mlp-8",
                expert=network,
                baseline=None,
                num_experts=4,
                precision=policy,
                phase=phase,
                steps_per_loop=4,
            )
            cases = {
                f"{dispatch}, {size}": dataclasses.replace(case, dispatch=dispatch, batch_size=size)
                for size in sizes
                for dispatch in ("routed", "dense")
            }
            yield Group(
                f"{CROSSOVER_TITLE} ({phase}): 4 experts {network}",
                lambda cases=cases: [mixture_arm(name, case) for name, case in cases.items()],
                [
                    Question(
                        f"{phase} {network}, batch {size}: routed / dense",
                        f"routed, {size}",
                        f"dense, {size}",
                    )
                    for size in sizes
                ],
            )


def nothing_else(policy: str) -> Iterator[Group]:
    """No group beyond the A/A pair that every benchmark begins with."""
    del policy
    yield from ()


SUITES: dict[str, Callable[[str], Iterator[Group]]] = {
    "figures": figures,
    "growth": growth,
    "crossover": crossover,
    "aa": nothing_else,
}
