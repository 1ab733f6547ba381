"""The mixture's answers: normalised, independent of batch mates, the same however executed."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from moe import randomness, routing
from moe.config import choices
from moe.config.run import Config
from moe.config.sections import LossConfig, ModelConfig, TrainConfig
from moe.errors import UserError
from moe.models import backbones
from moe.models.build import build_mixture
from moe.models.layers import Dropout
from moe.models.mixture import MixtureOfExperts
from moe.models.routers import Way, favourite_alone, make_router, routed_way
from moe.taxonomy import Groups
from moe.train.objectives import BlendObjective, JointObjective
from moe.types import Batch

S, E, L, COLUMNS = 9, 3, 6, 4
GROUP_OF_CLASS = (0, 1, 2, 1, 0, 1)
SIZES = [GROUP_OF_CLASS.count(e) for e in range(E)]
FEATURES = np.random.default_rng(0).normal(0, 2, size=(S, COLUMNS)).astype(np.float32)
LABEL = np.arange(S, dtype=np.int32) % L

# name: group heads, baseline, width of the boost (0: not blended)
KINDS = {
    "full": (False, False, 0),
    "full, reference": (False, True, 0),
    "full, scalar": (False, True, 1),
    "full, per class": (False, True, L),
    "group": (True, False, 0),
    "group, reference": (True, True, 0),
    "group, scalar": (True, True, 1),
    "group, per class": (True, True, L),
}
ROUTERS = {
    "soft": make_router("soft"),
    "hard": make_router("hard"),
    "top 2": make_router("topk", 2),
    "soft above .3": make_router("soft", gate_threshold=0.3),
}


def dropping(outputs):
    """A network that answers differently in every call in training."""
    inputs = keras.Input([COLUMNS])
    return keras.Model(inputs, keras.layers.Dense(outputs)(Dropout(0.5)(inputs)))


def make_mixture(kind, network=None, **changes):
    group, baseline, boost = KINDS[kind]
    network = network or (lambda outputs: backbones.mlp((COLUMNS,), outputs, [8]))
    keras.utils.set_random_seed(1)
    mixture = MixtureOfExperts(
        **{
            "gate": network(E),
            "experts": [network(SIZES[e] if group else L) for e in range(E)],
            "num_classes": L,
            "baseline": network(L) if baseline else None,
            "combiners": [network(boost) for _ in range(E)] if boost else [],
            "group_of_class": GROUP_OF_CLASS if group else None,
        }
        | changes
    )
    mixture.build((None, COLUMNS))
    return mixture


@pytest.fixture(scope="module")
def mixtures():
    """One mixture of every kind; nobody may change them."""
    return {kind: make_mixture(kind) for kind in KINDS}


def answer(mixture, router, features=FEATURES, **options):
    router = ROUTERS[router]
    return mixture.forward(tf.constant(features), router.evaluate, **options)


def probabilities(log_probs):
    return np.exp(np.asarray(log_probs, np.float64))


def of_slots(output, log_probs):
    """The rows of `[S, K, L]` that somebody was asked for."""
    return tf.boolean_mask(log_probs, routing.asks_somebody(output.routing))


@pytest.mark.parametrize("router", ROUTERS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_distribution_sums_to_1(mixtures, kind, router):
    output = answer(mixtures[kind], router)
    distributions = [output.log_probs, output.gate_log_probs, output.routing.log_weights]
    distributions += [
        of_slots(output, each) for each in (output.expert_log_probs, output.blend_log_probs)
    ]
    if output.baseline_log_probs is not None:
        distributions.append(output.baseline_log_probs)
    for log_probs in distributions:
        assert log_probs.dtype == tf.float32
        np.testing.assert_allclose(probabilities(log_probs).sum(axis=-1), 1, atol=1e-5)
    chosen = {"hard": 1, "top 2": 2}.get(router, E)
    assert output.log_probs.shape == (S, L)
    assert output.answer.shape == (S,)
    assert output.routing.expert_index.shape == (S, chosen)
    assert output.expert_log_probs.shape == output.blend_log_probs.shape == (S, chosen, L)


@pytest.mark.parametrize("router", ROUTERS)
@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_does_not_depend_on_batch_mates(mixtures, kind, router):
    together = answer(mixtures[kind], router)
    for rows in ([4], [8, 4, 0], [4] * 5):
        some = answer(mixtures[kind], router, FEATURES[rows])
        np.testing.assert_allclose(
            some.log_probs, tf.gather(together.log_probs, rows), atol=1e-5, rtol=1e-5
        )
        np.testing.assert_array_equal(some.answer, tf.gather(together.answer, rows))
        np.testing.assert_array_equal(
            some.routing.expert_index, tf.gather(together.routing.expert_index, rows)
        )


@pytest.mark.parametrize("router", ROUTERS)
@pytest.mark.parametrize("kind", KINDS)
def test_running_the_chosen_experts_equals_running_all(mixtures, kind, router):
    choose = ROUTERS[router].evaluate.choose
    outputs = [
        mixtures[kind].forward(FEATURES, Way(choose, execute))
        for execute in (routing.run_routed, routing.run_dense)
    ]
    for name in ("log_probs", "answer"):
        routed, dense = (getattr(output, name) for output in outputs)
        np.testing.assert_allclose(routed, dense, atol=1e-5, rtol=1e-5)
    for name in ("expert_log_probs", "blend_log_probs"):
        routed, dense = (of_slots(output, getattr(output, name)) for output in outputs)
        np.testing.assert_allclose(routed, dense, atol=1e-5, rtol=1e-5)


def test_the_formulas_of_a_blended_mixture(mixtures):
    mixture = mixtures["full, per class"]
    gate = tf.nn.softmax(mixture.gate(FEATURES)).numpy()
    baseline = tf.nn.softmax(mixture.baseline(FEATURES)).numpy()
    blends = []
    for e in range(E):
        expert = tf.nn.softmax(getattr(mixture, f"expert_{e}")(FEATURES)).numpy()
        share = tf.sigmoid(getattr(mixture, f"combiner_{e}")(FEATURES)).numpy()
        blend = (1 - share) * baseline + share * expert
        blends.append(blend / blend.sum(axis=1, keepdims=True))
    blends = np.stack(blends, axis=1)  # [S, E, L]
    soft = answer(mixture, "soft")
    np.testing.assert_allclose(
        probabilities(soft.log_probs), np.einsum("se,sel->sl", gate, blends), atol=1e-5
    )
    hard = answer(mixture, "hard")
    favourite = gate.argmax(axis=1)
    expected = blends[np.arange(S), favourite]
    np.testing.assert_allclose(probabilities(hard.log_probs), expected, atol=1e-5)
    np.testing.assert_array_equal(hard.answer, expected.argmax(axis=1))
    best = np.argsort(-gate, axis=1)[:, :2]
    weights = np.take_along_axis(gate, best, axis=1)
    weights /= weights.sum(axis=1, keepdims=True)
    expected = np.einsum("sk,skl->sl", weights, blends[np.arange(S)[:, None], best])
    top = answer(mixture, "top 2")
    np.testing.assert_allclose(probabilities(top.log_probs), expected, atol=1e-5)


def test_the_formulas_of_group_heads_without_a_blend(mixtures):
    mixture = mixtures["group"]
    gate = tf.nn.softmax(mixture.gate(FEATURES)).numpy()
    experts = [tf.nn.softmax(getattr(mixture, f"expert_{e}")(FEATURES)).numpy() for e in range(E)]
    soft, hard = np.zeros((S, L)), np.zeros((S, L))
    names = []
    for s in range(S):
        favourite = gate[s].argmax()
        seen = [0] * E
        for label, group in enumerate(GROUP_OF_CLASS):
            of_expert = experts[group][s, seen[group]]
            seen[group] += 1
            soft[s, label] = gate[s, group] * of_expert
            hard[s, label] = gate[s, group] * (
                of_expert if group == favourite else 1 / SIZES[group]
            )
        own = [label for label, group in enumerate(GROUP_OF_CLASS) if group == favourite]
        names.append(own[experts[favourite][s].argmax()])
    np.testing.assert_allclose(probabilities(answer(mixture, "soft").log_probs), soft, atol=1e-5)
    output = answer(mixture, "hard")
    np.testing.assert_allclose(probabilities(output.log_probs), hard, atol=1e-5)
    # The answer is the chosen expert's, whatever the spread mass of the other groups says.
    np.testing.assert_array_equal(output.answer, names)


@pytest.mark.parametrize(("e", "classes"), [(0, [0, 4]), (1, [1, 3, 5]), (2, [2])])
def test_a_group_head_maps_back_to_its_own_classes(mixtures, e, classes):
    mixture = make_mixture("group", network=lambda n: backbones.mlp((COLUMNS,), n, []))
    head = getattr(mixture, f"expert_{e}").layers[-1]
    size = len(classes)
    # exp of the logits: 1, 2, 3, whatever the features
    head.set_weights([np.zeros((COLUMNS, size)), np.log(1.0 + np.arange(size))])
    result = probabilities(mixture.expert_log_probs(e, tf.constant(FEATURES)))
    expected = np.zeros(L)
    expected[classes] = (1 + np.arange(size)) / (1 + np.arange(size)).sum()
    np.testing.assert_allclose(result, np.tile(expected, [S, 1]), atol=1e-6)


def test_hard_routing_runs_one_expert_an_example(mixtures):
    seen = {}

    class Counting(MixtureOfExperts):
        def expert_log_probs(self, e, x, training=False):
            seen[e] = seen.get(e, 0) + len(x)
            return super().expert_log_probs(e, x, training)

    mixture = mixtures["full"]
    experts = [getattr(mixture, f"expert_{e}") for e in range(E)]
    counting = Counting(gate=mixture.gate, experts=experts, num_classes=L)
    for router, rows in (("hard", S), ("top 2", 2 * S), ("soft", E * S)):
        seen.clear()
        output = answer(counting, router)
        assert sum(seen.values()) == rows
        load = np.bincount(output.routing.expert_index.numpy().ravel(), minlength=E)
        assert seen == {e: load[e] for e in range(E) if load[e]}


def test_a_baseline_that_no_answer_needs_runs_only_when_asked(mixtures):
    mixture = mixtures["full, reference"]
    with_it, without = answer(mixture, "hard"), answer(mixture, "hard", reference=False)
    assert with_it.baseline_log_probs is not None
    assert without.baseline_log_probs is None
    np.testing.assert_array_equal(with_it.log_probs, without.log_probs)
    blended = answer(mixtures["full, scalar"], "hard", reference=False)
    assert blended.baseline_log_probs is not None


def test_the_temperature_divides_the_gates_logits(mixtures):
    cold = mixtures["full"]
    warm = make_mixture("full", gate=cold.gate, gate_temperature=4.0)
    np.testing.assert_allclose(
        answer(warm, "soft").gate_logits, answer(cold, "soft").gate_logits / 4, rtol=1e-5
    )


def test_features_are_standardised_for_every_network():
    mixture = make_mixture("full, per class")
    plain = answer(mixture, "soft").log_probs
    mixture.standardize.mean.assign(np.full(COLUMNS, 3.0))
    mixture.standardize.deviation.assign(np.full(COLUMNS, 2.0))
    np.testing.assert_allclose(
        answer(mixture, "soft", FEATURES * 2 + 3).log_probs, plain, atol=1e-4
    )


# --- training -----------------------------------------------------------------------------------

TRAINED = ["gate", "baseline", "expert_1", "combiner_2"]


@pytest.mark.parametrize("part", TRAINED)
def test_only_the_parts_that_train_run_in_training_mode(part):
    mixture = make_mixture("full, per class", network=dropping)

    def run(parts):
        with randomness.key_scope(tf.constant([1, 2])):
            return mixture.forward(FEATURES, train_parts=parts)

    plain, trained = run(frozenset()), run(frozenset([part]))
    index = {"expert_1": 1, "combiner_2": 2}.get(part, 0)

    def changed(name):
        before, after = getattr(plain, name), getattr(trained, name)
        return bool(tf.reduce_any(tf.abs(before - after) > 1e-6))

    assert changed("log_probs")
    assert changed("gate_log_probs") == (part == "gate")
    assert changed("baseline_log_probs") == (part == "baseline")
    assert changed("expert_log_probs") == (part == "expert_1")
    for e in range(E):
        same = np.allclose(plain.expert_log_probs[:, e], trained.expert_log_probs[:, e], atol=1e-6)
        assert same == (part != f"expert_{e}")
        if part == "combiner_2":
            blends = (o.blend_log_probs[:, e] for o in (plain, trained))
            assert np.allclose(*blends, atol=1e-6) == (e != index)


WEIGHTLESS = LossConfig(
    gate_supervision=0.0, baseline_loss=0.0, expert_loss=0.0, balance_loss=0.0, z_loss=0.0
)


@pytest.mark.parametrize(
    ("router", "mixture_loss", "kind"),
    [
        ("soft", "likelihood", "full, per class"),
        ("soft", "likelihood", "group"),
        ("soft", "expected", "full"),
        ("hard", "likelihood", "full, per class"),
        ("hard", "likelihood", "full"),
        ("hard", "likelihood", "group"),
        ("top 2", "likelihood", "full"),
        ("top 2", "expected", "full"),
    ],
)
def test_the_gate_learns_from_every_mixture_loss_alone(mixtures, router, mixture_loss, kind):
    mixture = mixtures[kind]
    weights = dataclasses.replace(WEIGHTLESS, mixture_loss=mixture_loss)
    objective = JointObjective(mixture, ROUTERS[router], weights, named=False)
    batch = Batch(
        tf.constant(FEATURES),
        tf.constant(LABEL),
        tf.fill([S], -1),
        tf.ones([S]),
        tf.range(S),
        tf.ones([S]),
    )
    variables = [v.value for v in mixture.gate.trainable_variables]
    with randomness.key_scope(tf.constant([1, 2])), tf.GradientTape() as tape:
        outcome = objective.train(batch, S)
    norms = [float(tf.norm(g)) for g in tape.gradient(outcome.loss, variables)]
    assert all(1e-4 < norm < 1e4 for norm in norms)


def test_hard_routing_samples_in_training_and_takes_the_favourite_at_evaluation(mixtures):
    router, mixture = ROUTERS["hard"], mixtures["full"]
    many = np.repeat(FEATURES[:1], 500, axis=0)

    def drawn(key):
        with randomness.key_scope(tf.constant(key)):
            return mixture.forward(many, router.train).routing.expert_index.numpy()

    first = drawn([1, 2])
    np.testing.assert_array_equal(first, drawn([1, 2]))
    assert (first != drawn([1, 3])).any()
    gate = probabilities(answer(mixture, "hard", FEATURES[:1]).gate_log_probs)[0]
    share = np.bincount(first[:, 0], minlength=E) / 500
    assert (np.abs(share - gate) < 5 * np.sqrt(gate * (1 - gate) / 500) + 1e-9).all()
    favourites = answer(mixture, "hard", many).routing.expert_index
    np.testing.assert_array_equal(favourites, np.full([500, 1], gate.argmax()))


@pytest.mark.parametrize("combiners_drop", [False, True])
def test_only_the_combiners_drop_when_they_learn_to_blend(combiners_drop):
    network = dropping if combiners_drop else lambda n: backbones.mlp((COLUMNS,), n, [8])
    kind = "full, per class"
    mixture = make_mixture(kind, dropping, combiners=[network(L) for _ in range(E)])
    objective = BlendObjective(mixture, None)
    columns = {"label": LABEL, "group": LABEL % E, "index": np.arange(S), "weight": np.ones(S, "f")}
    batch = Batch(features=tf.constant(FEATURES), loss_weight=columns["weight"], **columns)

    def loss(key):
        with randomness.key_scope(tf.constant(key)):
            return float(objective.train(batch, S).loss)

    assert (loss([1, 2]) != loss([1, 3])) == combiners_drop


# --- as a Keras model ---------------------------------------------------------------------------


def test_parts_are_attributes_in_a_fixed_order(mixtures):
    assert list(mixtures["full"].parts()) == ["gate", "expert_0", "expert_1", "expert_2"]
    assert list(mixtures["full, scalar"].parts()) == [
        "baseline", "gate", "expert_0", "expert_1", "expert_2",
        "combiner_0", "combiner_1", "combiner_2",
    ]  # fmt: skip


def test_the_model_knows_every_weight_of_its_parts(mixtures):
    mixture = mixtures["full, per class"]
    of_parts = sum(len(part.weights) for part in mixture.parts().values())
    assert len(mixture.weights) == of_parts + 2  # and the standardisation


def test_calling_the_model_gives_the_soft_probabilities(mixtures):
    mixture = mixtures["full, per class"]
    expected = probabilities(answer(mixture, "soft").log_probs)
    np.testing.assert_allclose(mixture(FEATURES), expected, atol=1e-5)
    inputs = keras.Input([COLUMNS])
    outer = keras.Model(inputs, mixture(inputs))
    np.testing.assert_allclose(outer(FEATURES), expected, atol=1e-5)


def test_combiners_need_a_baseline_and_one_each():
    network = dropping(L)
    with pytest.raises(ValueError, match="give both, or none"):
        make_mixture("full", combiners=[network] * E)
    with pytest.raises(ValueError, match="give both, or none"):
        make_mixture("full, scalar", combiners=[network])


# --- built from a configuration -----------------------------------------------------------------

MODEL = ModelConfig(
    boost="per_class", gate_backbone="mlp-3", expert_backbone="mlp-5", baseline_backbone="mlp-4"
)
GROUPS = Groups(("a", "b", "c"), named=True, group_of_class=GROUP_OF_CLASS)


def built(policy="float32", seed=0, **changes):
    model = dataclasses.replace(MODEL, **changes)
    return build_mixture(
        Config(model=model, train=TrainConfig(seed=seed)), GROUPS, (COLUMNS,), L, policy
    )


def same_weights(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one.weights, other.weights, strict=True))


@pytest.mark.parametrize("head", ["full", "group"])
def test_experts_with_networks_of_their_own(head):
    mixture = built(expert_backbone="mlp-5,mlp-7-6,mlp-3", expert_head=head)
    widths = [getattr(mixture, f"expert_{e}").layers[2].units for e in range(E)]
    assert widths == [5, 7, 3]
    for router in ("soft", "hard", "top 2"):
        choose = ROUTERS[router].evaluate.choose
        routed, dense = (
            mixture.forward(FEATURES, Way(choose, execute)).log_probs
            for execute in (routing.run_routed, routing.run_dense)
        )
        np.testing.assert_allclose(routed, dense, atol=1e-5)
    assert len(set(answer(mixture, "hard").routing.expert_index[:, 0].numpy())) > 1
    fixed = mixture.forward(FEATURES, routed_way(favourite_alone, capacity_factor=float(E)))
    np.testing.assert_allclose(fixed.log_probs, answer(mixture, "hard").log_probs, atol=1e-5)


def test_as_many_networks_as_experts_or_one():
    with pytest.raises(UserError, match="names 2 networks for 3 experts"):
        built(expert_backbone="mlp-5,mlp-7")


def test_weights_depend_on_the_seed_and_on_the_name_of_the_part():
    first, again, other = built(), built(), built(seed=1)
    for name, part in first.parts().items():
        assert same_weights(part, again.parts()[name])
        assert not same_weights(part, other.parts()[name])
    assert not same_weights(first.expert_0, first.expert_1)


def test_weights_do_not_depend_on_what_else_is_built():
    first = built()
    for other in (built(baseline=False, boost="none"), built(boost="scalar")):
        assert same_weights(first.gate, other.gate)
        assert same_weights(first.expert_2, other.expert_2)
    assert same_weights(first.baseline, built(boost="none").baseline)


@pytest.mark.parametrize("head", choices.EXPERT_HEADS)
@pytest.mark.parametrize("boost", choices.BOOSTS)
def test_outputs_have_the_right_widths(head, boost):
    mixture = built(expert_head=head, boost=boost)
    widths = [part.output_shape[-1] for part in mixture.parts().values()]
    experts = SIZES if head == "group" else [L] * E
    combiners = {"none": [], "scalar": [1] * E, "per_class": [L] * E}[boost]
    assert widths == [L, E, *experts, *combiners]


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("router", ROUTERS)
def test_half_precision_still_gives_float32_distributions(policy, router):
    mixture = built(policy)
    assert mixture.expert_0.layers[2].compute_dtype == policy.removeprefix("mixed_")
    output = answer(mixture, router, FEATURES * 100)
    asked = of_slots(output, output.blend_log_probs)
    for log_probs in (output.log_probs, output.gate_log_probs, asked):
        assert log_probs.dtype == tf.float32
        np.testing.assert_allclose(probabilities(log_probs).sum(axis=-1), 1, atol=1e-5)


def test_building_puts_the_old_policy_back():
    before = keras.config.dtype_policy().name
    built("mixed_bfloat16")
    assert keras.config.dtype_policy().name == before


@pytest.mark.parametrize("call", [False, True], ids=["forward", "call"])
def test_features_are_not_rounded_before_they_are_standardised(call):
    # In bfloat16 every one of these would be 996, 1000 or 1004.
    rows = np.random.default_rng(0).normal(1000, 1, size=(50, COLUMNS)).astype(np.float32)

    def answers(policy):
        mixture = built(policy)
        mixture.standardize.fit(rows)
        return mixture(rows) if call else probabilities(answer(mixture, "soft", rows).log_probs)

    np.testing.assert_allclose(answers("mixed_bfloat16"), answers("float32"), atol=0.03)
