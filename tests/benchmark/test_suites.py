"""Every question names ways that its group really times; every way really runs."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from moe.benchmark import mixtures, suites
from moe.benchmark.cases import Case
from moe.benchmark.measure import Arm
from moe.benchmark.mixtures import mixture_arm, routed_step_arm
from moe.benchmark.training import keras_arm, matrix_product_arm, network_arm, pipeline_arm
from moe.config.choices import SUITES
from moe.sweep_axes import DISPATCHES, PHASES


@pytest.fixture
def named_arms(monkeypatch):
    """Arms that have a name and nothing else."""
    for maker in ("mixture_arm", "routed_step_arm", "keras_arm", "network_arm", "pipeline_arm"):
        monkeypatch.setattr(
            suites,
            maker,
            lambda name, *args, **options: Arm(name, lambda: None, 1, 1, {"precision": "float32"}),
        )


def test_the_flag_and_the_suites_agree():
    assert tuple(suites.SUITES) == SUITES


def test_questions_are_about_arms_of_their_group(named_arms):
    groups = [group for suite in suites.SUITES.values() for group in suite("float32")]
    groups.append(suites.same_twice("float32"))
    for group in groups:
        names = [arm.name for arm in group.all_arms()]
        assert len(set(names)) == len(names)
        assert group.questions
        assert names[-1] == "matrix product, float32"
        for question in group.questions:
            assert {question.arm, question.peer} <= set(names)
    titles = [group.title for group in groups]
    assert len(set(titles)) == len(titles)


TINY = Case(gate="mlp-4", expert="mlp-4", baseline="mlp-4", num_experts=3, batch_size=8)
STEP = {"policy": "mixed_bfloat16", "batch_size": 8, "steps": 2}
ARMS = {
    f"{phase}, {dispatch}": lambda phase=phase, dispatch=dispatch: mixture_arm(
        "x", dataclasses.replace(TINY, phase=phase, dispatch=dispatch, load="zipf")
    )
    for phase, dispatch in itertools.product(PHASES, DISPATCHES)
} | {
    "ours": lambda: network_arm("x", "mlp-4", **STEP),
    "stock layers": lambda: network_arm("x", "mlp-4", stock=True, **STEP),
    "fed": lambda: network_arm("x", "mlp-4", augment="flip_crop", **STEP),
    "Keras": lambda: keras_arm("x", "mlp-4", **STEP),
    "pipeline": lambda: pipeline_arm("x", "flip", batch_size=8, steps=2),
    "matrix": lambda: matrix_product_arm("float32"),
    "one network": lambda: routed_step_arm("x", "mlp-4", num_experts=1, **STEP),
    "routed step": lambda: routed_step_arm("x", "mlp-4", num_experts=3, **STEP),
    "dispatch": lambda: routed_step_arm("x", None, num_experts=3, **STEP),
}


@pytest.mark.parametrize("make", ARMS.values(), ids=ARMS)
def test_an_arm_runs_again_and_again(make):
    arm = make()
    for _ in range(2):
        assert np.isfinite(arm.run_loop().numpy()).all()


@pytest.mark.parametrize("dispatch", DISPATCHES)
def test_an_evaluation_runs_every_network(dispatch, monkeypatch):
    """What has no part in the result is left out of the graph, and would cost nothing."""
    built = []
    build = mixtures._mixture
    monkeypatch.setattr(mixtures, "_mixture", lambda case: built.append(build(case)) or built[0])
    arm = mixture_arm("x", dataclasses.replace(TINY, phase="evaluate", dispatch=dispatch))
    (mixture,) = built
    for part, network in mixture.parts().items():
        right = network.get_weights()
        network.set_weights([np.full_like(weight, np.nan) for weight in right])
        assert np.isnan(arm.run_loop().numpy()), part
        network.set_weights(right)
        assert np.isfinite(arm.run_loop().numpy())


def test_a_case_says_what_it_did():
    arm = mixture_arm("x", dataclasses.replace(TINY, load="zipf", batch_size=11))
    assert arm.facts["load"] == pytest.approx([6 / 11, 3 / 11, 2 / 11])
    assert (arm.facts["routing"], arm.facts["dispatch"]) == ("hard", "routed")
    # in multiply-accumulates; the first layer of each network needs no gradient by the images
    gate, expert, combiner = 3 * 4 * 3, 3 * 4 * 10, 3 * 512 * 10
    first = 2 * 3_072 * (4 + 4 + 4 + 512)
    assert arm.flops == 2 * (first + gate + 2 * expert + combiner)


def test_work_in_fixed_shapes_counts_once_and_what_is_dropped_not_at_all():
    # Room for ceil(1.25 * 12 / 3) = 5 each; zipf asks for 7, 3 and 2: two are dropped.
    case = dataclasses.replace(TINY, dispatch="fixed", load="zipf", batch_size=12)
    arm = mixture_arm("x", dataclasses.replace(case, phase="evaluate"))
    assert arm.facts["load"] == pytest.approx([5 / 12, 3 / 12, 2 / 12])
    assert arm.facts["dropped"] == pytest.approx(2 / 12)
    # In multiply-accumulates; a dropped example asks neither an expert nor its combiner.
    gate, expert, combiner = 3_072 * 4 + 4 * 3, 3_072 * 4 + 4 * 10, 3_072 * 512 + 512 * 10
    assert arm.facts["expert_macs"] == expert
    assert arm.flops == pytest.approx(2 * (gate + expert + (expert + combiner) * 10 / 12), rel=1e-3)


def test_every_precision_has_its_matrix_product():
    arms = [
        Arm(policy, lambda: None, 1, 1, {"precision": policy})
        for policy in ("mixed_bfloat16", "float32", "mixed_bfloat16")
    ]
    group = suites.Group("x", lambda: [*arms, Arm("pipeline", lambda: None, 1, 1)], [])
    products = [arm.facts["precision"] for arm in group.all_arms()[4:]]
    assert products == ["mixed_bfloat16", "float32"]
