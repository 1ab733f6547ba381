"""What it costs to look at every gradient: a step with the guard and without, in turns.

    python -m tests.faults.guard_cost --count=15 --record

Without means that the verdict is a constant, so that TensorFlow prunes everything that leads to it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from unittest import mock

from tests.faults import record

_WINDOW_SECONDS = 0.4


def _tabular(name: str):
    """The five experts of the tabular preset, on rows like those of `digits`."""
    import numpy as np
    import tensorflow as tf

    from moe.benchmark import training
    from moe.config.sections import LossConfig
    from moe.models import backbones
    from moe.models.mixture import MixtureOfExperts
    from moe.models.routers import make_router
    from moe.train.objectives import JointObjective
    from moe.types import Batch

    size, width, classes, experts = 32, 64, 10, 5
    gate = backbones.build("mlp-32", (width,), experts)
    networks = [backbones.build("mlp-64-32", (width,), classes) for _ in range(experts)]
    mixture = MixtureOfExperts(gate=gate, experts=networks, num_classes=classes)
    mixture.build((None, width))
    losses = LossConfig("likelihood", 0.0, 0.0, 0.0, 0.01)
    objective = JointObjective(mixture, make_router("soft"), losses, named=False)
    rng = np.random.default_rng(0)
    label = tf.constant(rng.integers(classes, size=size), tf.int32)
    features = tf.constant(rng.normal(size=(size, width)), tf.float32)
    ones = tf.ones([size])
    batch = Batch(features, label, label, ones, tf.range(size), ones)
    with mock.patch.object(training, "one_batch", return_value=batch):
        return training.loop_arm(
            name, mixture, objective, policy="float32", batch_size=size, steps=100
        )


def _network(network: str) -> Callable:
    def make(name: str):
        from moe.benchmark.training import network_arm

        return network_arm(name, network, policy="float32", batch_size=128, steps=4)

    return make


CASES = {
    "tabular preset, 5 experts, batch 32": _tabular,
    "small, batch 128": _network("small"),
    "deep, batch 128": _network("deep"),
}


def main() -> int:
    parser = record.parser(__doc__, count=9)
    parser.add_argument("--cpu", action="store_true", help="seconds computed, where others compute")
    options = parser.parse_args()
    clock = time.process_time if options.cpu else time.perf_counter
    from moe.quiet import load_tensorflow

    load_tensorflow()
    import tensorflow as tf

    from moe.benchmark.measure import speed_ratio, take_turns
    from moe.train import step
    from moe.train.guard import FINE, find_fault

    found = {}
    for title, make in CASES.items():
        arms = []
        for name, guarded in (("guarded", True), ("again", True), ("unguarded", False)):
            look = find_fault if guarded else lambda *_: tf.constant(float(FINE))
            with mock.patch.object(step, "find_fault", side_effect=look):
                arms.append(make(name))
                arms[-1].run_loop().numpy()  # traced here
        timings = take_turns(arms, options.count, _WINDOW_SECONDS, clock)
        guarded, again, unguarded = arms
        cost, noise = (speed_ratio(one, guarded, timings) for one in (unguarded, again))
        found[title] = {
            "costs": f"{100 * (cost.median - 1):.1f} % [{100 * (cost.low - 1):.1f}, "
            f"{100 * (cost.high - 1):.1f}]",
            "the same against itself": f"{100 * (noise.median - 1):.1f} % "
            f"[{100 * (noise.low - 1):.1f}, {100 * (noise.high - 1):.1f}]",
        }
    return record.finish("guard_cost", options, found, [])


if __name__ == "__main__":
    sys.exit(main())
