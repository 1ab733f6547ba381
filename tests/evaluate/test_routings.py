"""Every routing made of the same dense answers, against running the mixture itself."""

import keras
import numpy as np
import pytest

from moe.config.choices import BALANCED_ROUTINGS, EVALUATION_ROUTINGS, ROUTINGS, TOP_K_ROUTINGS
from moe.data.pipeline import Split
from moe.data.source import Examples
from moe.errors import UserError
from moe.evaluate.predict import Dense, predict_dense, predict_parts, predict_routed
from moe.evaluate.routings import answers_under, check_routing
from moe.models import backbones
from moe.models.mixture import MixtureOfExperts
from moe.models.routers import make_router

# Two examples, two experts, three classes.
GATE = np.log([[0.6, 0.4], [0.3, 0.7]]).astype(np.float32)
EXPERTS = np.array([[[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]], [[0.2, 0.2, 0.6], [0.5, 0.3, 0.2]]])
BASELINE = np.log([[0.2, 0.3, 0.5], [0.4, 0.5, 0.1]]).astype(np.float32)
DENSE = Dense(
    GATE, np.log(EXPERTS).astype(np.float32), np.log(EXPERTS).astype(np.float32), BASELINE
)
LABEL, GROUP = np.array([1, 2]), np.array([1, 0])
NAMES = ("left", "right")


def under(name, dense=DENSE, **changes):
    options = {
        "label": LABEL,
        "group": GROUP,
        "expert_names": NAMES,
        "group_of_class": None,
        "blends": True,
    }
    return answers_under(name, dense, **options | changes)


GOLDENS = {
    # .6 * (.7, .2, .1) + .4 * (.1, .8, .1); .3 * (.2, .2, .6) + .7 * (.5, .3, .2)
    "soft": ([[0.46, 0.44, 0.1], [0.41, 0.27, 0.32]], [0, 1]),
    "hard": ([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2]], [0, 1]),
    "topk": ([[0.46, 0.44, 0.1], [0.41, 0.27, 0.32]], [0, 1]),
    "noisy_topk": ([[0.46, 0.44, 0.1], [0.41, 0.27, 0.32]], [0, 1]),
    "expert_choice": ([[0.46, 0.44, 0.1], [0.41, 0.27, 0.32]], [0, 1]),
    "uniform": ([[0.4, 0.5, 0.1], [0.35, 0.25, 0.4]], [-1, -1]),
    # by group: 1, then 0
    "oracle": ([[0.1, 0.8, 0.1], [0.2, 0.2, 0.6]], [1, 0]),
    # labels 1 and 2: .8 > .2 and .6 > .2
    "oracle_best": ([[0.1, 0.8, 0.1], [0.2, 0.2, 0.6]], [1, 0]),
    "expert:left": ([[0.7, 0.2, 0.1], [0.2, 0.2, 0.6]], [0, 0]),
    "expert:right": ([[0.1, 0.8, 0.1], [0.5, 0.3, 0.2]], [1, 1]),
    "baseline": ([[0.2, 0.3, 0.5], [0.4, 0.5, 0.1]], [-1, -1]),
}


@pytest.mark.parametrize("name", GOLDENS)
def test_answers_by_hand(name):
    expected, expert = GOLDENS[name]
    result = under(name, top_k=2)
    np.testing.assert_allclose(np.exp(result.log_probs), expected, atol=1e-6)
    np.testing.assert_array_equal(result.answer, np.argmax(expected, axis=1))
    np.testing.assert_array_equal(result.expert, expert)
    np.testing.assert_array_equal(result.gate_log_probs, GATE)


@pytest.mark.parametrize("name", ["hard", "topk"])
def test_a_balance_bias_has_a_say_in_who_answers(name):
    # .6 - .5 < .4 and .3 - .5 < .7
    result = under(name, balance_bias=np.array([-0.5, 0.0], np.float32))
    np.testing.assert_array_equal(result.expert, [1, 1])
    np.testing.assert_allclose(np.exp(result.log_probs), EXPERTS[:, 1], atol=1e-6)


def test_every_routing_is_tested():
    assert set(EVALUATION_ROUTINGS) <= {*GOLDENS, "random"}


def test_random_routing_is_even_and_depends_on_its_seed():
    size = 1000
    dense = Dense(*(np.repeat(column[:1], size, axis=0) for column in DENSE))
    one = {"label": np.zeros(size, int), "group": np.zeros(size, int)}
    first, again, other = (under("random", dense, seed=seed, **one) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.expert, again.expert)
    assert (first.expert != other.expert).any()
    assert abs(first.expert.mean() - 0.5) < 5 * 0.5 / np.sqrt(size)
    np.testing.assert_allclose(np.exp(first.log_probs), EXPERTS[0][first.expert], atol=1e-6)


ABLE = {"expert_names": NAMES, "named": True, "has_baseline": True, "top_k": 2}


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("expert:middle", {}, r"--routing=expert:middle: the experts are left, right"),
        ("baseline", {"has_baseline": False}, r"--nobaseline"),
        ("oracle", {"named": False}, r"--routing=oracle: .* no group .*; use oracle_best"),
        ("topk", {"top_k": 3}, r"--top_k=3: the mixture has 2 experts"),
    ],
)
def test_a_routing_that_the_mixture_cannot_do_is_refused(name, changes, message):
    with pytest.raises(UserError, match=message):
        check_routing(name, **ABLE | changes)


@pytest.mark.parametrize("name", [*EVALUATION_ROUTINGS, "expert:left"])
def test_a_routing_that_the_mixture_can_do_passes(name):
    check_routing(name, **ABLE)


def test_only_the_oracle_needs_named_experts():
    for name in {*EVALUATION_ROUTINGS} - {"oracle"}:
        check_routing(name, **ABLE | {"named": False})


# --- a whole mixture ----------------------------------------------------------------------------

E, L, COLUMNS, SIZE = 3, 5, 4, 11
GROUP_OF_CLASS = (0, 1, 2, 1, 0)
KINDS = {"full": (False, False), "blended": (False, True), "group": (True, False)}
KINDS["group, blended"] = (True, True)


def make_mixture(kind, balanced=False):
    group, blends = KINDS[kind]
    keras.utils.set_random_seed(2)

    def network(outputs):
        return backbones.mlp((COLUMNS,), outputs, [6])

    mixture = MixtureOfExperts(
        gate=network(E),
        experts=[network(GROUP_OF_CLASS.count(e) if group else L) for e in range(E)],
        num_classes=L,
        baseline=network(L) if blends else None,
        combiners=[network(L) for _ in range(E)] if blends else [],
        group_of_class=GROUP_OF_CLASS if group else None,
        balanced=balanced,
    )
    mixture.build((None, COLUMNS))
    return mixture


def make_split():
    rng = np.random.default_rng(0)
    features = rng.normal(0, 2, size=(SIZE, COLUMNS)).astype(np.float32)
    label = (np.arange(SIZE) % L).astype(np.int32)
    return Split(Examples(features, label), np.array(GROUP_OF_CLASS, np.int32)[label])


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    """Name, mixture, split and dense answers of one kind of mixture."""
    mixture, split = make_mixture(request.param), make_split()
    return request.param, mixture, split, predict_dense(mixture, split, batch_size=SIZE)


def under_dense(kind, name, balance_bias=None):
    group, blends = KINDS[kind[0]]
    split = kind[2]
    return answers_under(
        name,
        kind[3],
        label=split.examples.label,
        group=split.group,
        expert_names=("a", "b", "c"),
        group_of_class=GROUP_OF_CLASS if group else None,
        blends=blends,
        balance_bias=balance_bias,
        top_k=2,
    )


@pytest.mark.parametrize("name", ROUTINGS)
def test_dense_answers_and_the_running_mixture_agree(kind, name):
    assert_same_answers(kind, name)


@pytest.mark.parametrize("name", BALANCED_ROUTINGS)
def test_dense_answers_and_a_running_mixture_with_a_bias_agree(kind, name):
    bias = np.array([0.5, 0.0, -0.5], np.float32)
    mixture = make_mixture(kind[0], balanced=True)
    mixture.balance_bias.assign(bias)
    assert_same_answers((kind[0], mixture, *kind[2:]), name, bias)
    without = under_dense(kind, name)
    assert (without.expert != under_dense(kind, name, bias).expert).any()


def assert_same_answers(kind, name, balance_bias=None):
    _, mixture, split, _ = kind
    router = make_router(name, 2 if name in TOP_K_ROUTINGS else 1)
    # 11 examples in batches of 4: the last one is padded.
    served = predict_routed(mixture, split, 4, router.evaluate)
    made = under_dense(kind, name, balance_bias)
    np.testing.assert_allclose(served.log_probs, made.log_probs, atol=1e-4)
    for column in ("answer", "expert"):
        np.testing.assert_array_equal(getattr(served, column), getattr(made, column))


NORMALISED = [*(r for r in EVALUATION_ROUTINGS if r != "baseline"), "expert:b"]


@pytest.mark.parametrize("name", NORMALISED)
def test_every_routing_gives_a_distribution(kind, name):
    result = under_dense(kind, name)
    sums = np.exp(result.log_probs.astype(np.float64)).sum(axis=1)
    np.testing.assert_allclose(sums, 1, atol=1e-5)
    assert np.isfinite(result.log_probs[np.arange(SIZE), make_split().examples.label]).all()


def test_routings_that_name_an_expert_for_every_class_pool_without_the_gate(kind):
    # Also with group heads: nothing of the gate's opinion is left.
    blends = np.exp(kind[3].blend_log_probs.astype(np.float64))
    uniform = np.exp(under_dense(kind, "uniform").log_probs)
    np.testing.assert_allclose(uniform, blends.mean(axis=1), atol=1e-5)
    oracle = np.exp(under_dense(kind, "oracle").log_probs)
    np.testing.assert_allclose(oracle, blends[np.arange(SIZE), kind[2].group], atol=1e-5)


def test_padding_and_batch_size_change_no_answer(kind):
    _, mixture, split, dense = kind
    padded = predict_dense(mixture, split, batch_size=4)
    for column, other in zip(padded, dense, strict=True):
        if column is not None:
            assert len(column) == SIZE
            np.testing.assert_allclose(column, other, atol=1e-4, rtol=1e-4)


def test_parts_by_themselves(kind):
    _, mixture, split, dense = kind
    parts = predict_parts(mixture, split, 4, ["gate", "expert_1"])
    assert set(parts) == {"gate", "expert_1"}
    np.testing.assert_allclose(parts["gate"], dense.gate_log_probs, atol=1e-4)
    np.testing.assert_allclose(
        parts["expert_1"], dense.expert_log_probs[:, 1], atol=1e-4, rtol=1e-4
    )


def test_the_best_expert_is_one_that_is_right_and_of_those_the_surest():
    # The first expert gives class 0 more than the second one, but names class 1.
    says = np.log([[[0.45, 0.5, 0.05], [0.4, 0.3, 0.3]]] * 2).astype(np.float32)
    dense = DENSE._replace(expert_log_probs=says, blend_log_probs=says)
    best = under("oracle_best", dense, label=np.array([0, 2]))
    np.testing.assert_array_equal(best.answer, [0, 0])
    np.testing.assert_array_equal(best.expert, [1, 1])  # of two that are wrong the surer one


def test_the_best_expert_is_an_upper_bound(kind):
    label = kind[2].examples.label
    best = under_dense(kind, "oracle_best")
    right = kind[3].blend_log_probs.argmax(axis=2) == label[:, None]
    np.testing.assert_array_equal(best.answer == label, right.any(axis=1))
