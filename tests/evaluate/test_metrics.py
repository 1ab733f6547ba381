"""Metrics by hand and against scikit-learn."""

import numpy as np
import pytest
import sklearn.metrics

from moe.evaluate import metrics


def two(*confidences):
    """Two-class probabilities whose higher one, of class 0, is given."""
    return np.array([[c, 1 - c] for c in confidences])


def test_calibration_error_by_hand():
    # 5 bins: (.6, .8] holds .7 (right) and .8 (wrong): |1 - 1.5| = .5;
    # (.8, 1] holds .9 (right) and 1 (right): |2 - 1.9| = .1; together .6 / 4
    label = np.array([0, 1, 0, 0])
    result = metrics.expected_calibration_error(two(0.7, 0.8, 0.9, 1.0), label, bins=5)
    assert result == pytest.approx(0.15)


def test_calibration_error_has_15_bins():
    assert metrics.ECE_BINS == 15
    # .61 and .65 lie in (9/15, 10/15], .67 does not: |1 - 1.26| + |1 - .67| over 3
    label = np.array([0, 1, 0])
    result = metrics.expected_calibration_error(two(0.61, 0.65, 0.67), label)
    assert result == pytest.approx((0.26 + 0.33) / 3)


def test_a_calibrated_classifier_has_no_calibration_error():
    # 10 answers at .8, of which 8 are right
    label = np.array([0] * 8 + [1] * 2)
    assert metrics.expected_calibration_error(two(*[0.8] * 10), label) == pytest.approx(
        0, abs=1e-12
    )


def test_calibration_error_at_the_ends():
    certain = two(1.0, 1.0)
    assert metrics.expected_calibration_error(certain, np.array([0, 0])) == 0
    assert metrics.expected_calibration_error(certain, np.array([1, 1])) == 1


def random_answers(size=200, num_classes=4):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(size, num_classes))
    log_probs = (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)
    label = rng.integers(num_classes, size=size)
    return log_probs, label


def test_likelihood_is_that_of_scikit_learn():
    log_probs, label = random_answers()
    probabilities = np.exp(log_probs.astype(np.float64))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    expected = sklearn.metrics.log_loss(label, probabilities)
    assert metrics.negative_log_likelihood(log_probs, label) == pytest.approx(expected, rel=1e-6)


def test_answers_are_judged_apart_from_the_distribution():
    log_probs, label = random_answers()
    answer = np.random.default_rng(1).integers(4, size=len(label))
    result = metrics.answer_metrics(log_probs, answer, label)
    assert result["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(label, answer))
    assert result["macro_f1"] == pytest.approx(
        sklearn.metrics.f1_score(label, answer, average="macro")
    )
    assert result["nll"] == metrics.negative_log_likelihood(log_probs, label)
    assert result["ece"] == pytest.approx(
        metrics.expected_calibration_error(np.exp(log_probs), label), abs=1e-6
    )


def test_macro_f1_counts_classes_that_never_occur():
    # class 0: F1 1; classes 1 and 2: never, 0
    log_probs = np.log(np.full((2, 3), 1 / 3))
    result = metrics.answer_metrics(log_probs, np.array([0, 0]), np.array([0, 0]))
    assert result["macro_f1"] == pytest.approx(1 / 3)


def test_confusion_matrix_has_true_classes_in_rows():
    result = metrics.confusion_matrix(np.array([1, 1, 0]), np.array([0, 1, 0]), num_classes=3)
    np.testing.assert_array_equal(result, [[1, 1, 0], [0, 1, 0], [0, 0, 0]])


def test_entropy_in_nats():
    result = metrics.entropy(np.array([[0.5, 0.5], [1.0, 0.0], [0.25, 0.75]]))
    # 1/4 ln 4 + 3/4 ln 4/3 = .5623
    np.testing.assert_allclose(result, [np.log(2), 0, 0.5623351], atol=1e-6)


def test_mutual_information_by_hand():
    # equal labellings: I = H = ln 2, normalised 1, whatever the names
    assert metrics.mutual_information(np.array([0, 0, 1, 1]), np.array([5, 5, 2, 2])) == (
        pytest.approx(np.log(2)),
        pytest.approx(1),
    )
    # independent labellings
    assert metrics.mutual_information(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])) == (
        pytest.approx(0, abs=1e-12),
        pytest.approx(0, abs=1e-12),
    )
    # a splits the four in halves, b one half once more: I = ln 2, H(b) = 1.5 ln 2
    information, normalised = metrics.mutual_information(
        np.array([0, 0, 1, 1]), np.array([0, 0, 1, 2])
    )
    assert information == pytest.approx(np.log(2))
    assert normalised == pytest.approx(1 / np.sqrt(1.5))


def test_mutual_information_with_a_constant_is_0():
    assert metrics.mutual_information(np.zeros(4, int), np.array([0, 0, 1, 1])) == (0, 0)


# Four examples, three experts; expert 2 is never the favourite.
GATE = np.array([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25], [0.8, 0.1, 0.1], [0.2, 0.4, 0.4]])
EXPERT = np.array([0, 0, 0, 1])
CLASS = np.array([0, 0, 1, 1])


def test_load_by_hand():
    result = metrics.routing_metrics(GATE, EXPERT, CLASS, np.full(4, -1))
    assert result["load"] == [0.75, 0.25, 0]
    # mean 1/3; deviation sqrt(((5/12)^2 + (1/12)^2 + (1/3)^2) / 3) = sqrt(42/432)
    assert result["load_cv"] == pytest.approx(3 * np.sqrt(42 / 432))
    assert result["max_overload"] == pytest.approx(2.25)
    assert result["dead_experts"] == pytest.approx(1 / 3)
    # highest gate probabilities: .5, .5, .8, .4
    assert result["confidence"] == pytest.approx(0.55)


def test_an_example_without_a_favourite_loads_every_expert_alike():
    even = metrics.routing_metrics(GATE, np.full(4, -1), CLASS, np.array([0, 0, 1, 1]))
    assert even["load"] == pytest.approx([1 / 3] * 3)
    assert even["load_cv"] == pytest.approx(0)
    assert even["max_overload"] == pytest.approx(1)
    assert even["dead_experts"] == 0
    assert even["mutual_information"] == even["group_normalized_mutual_information"] == 0


def test_gate_entropies_by_hand():
    result = metrics.routing_metrics(GATE, EXPERT, CLASS, np.full(4, -1))
    single = np.mean([-sum(p * np.log(p) for p in row) for row in GATE])
    # mean gate: .5, .25, .25: 1.5 ln 2
    assert result["usage_entropy"] == pytest.approx(1.5 * np.log(2))
    assert result["effective_experts"] == pytest.approx(2**1.5)
    assert result["entropy"] == pytest.approx(single)
    assert result["routing_information"] == pytest.approx(1.5 * np.log(2) - single)


def test_a_decided_gate_and_an_undecided_one():
    decided = metrics.routing_metrics(np.eye(4), np.arange(4), np.arange(4), np.full(4, -1))
    assert decided["entropy"] == 0
    assert decided["effective_experts"] == pytest.approx(4)
    assert decided["load_cv"] == 0
    even = metrics.routing_metrics(np.full((4, 4), 0.25), np.zeros(4, int), CLASS, np.full(4, -1))
    assert even["entropy"] == pytest.approx(np.log(4))
    assert even["routing_information"] == pytest.approx(0, abs=1e-12)
    assert even["load_cv"] == pytest.approx(np.sqrt(3))  # collapse: sqrt(E - 1)
    assert even["max_overload"] == 4


def test_specialisation_is_measured_against_classes_and_against_known_groups():
    result = metrics.routing_metrics(GATE, EXPERT, CLASS, np.array([0, 0, 0, 1]))
    assert result["group_normalized_mutual_information"] == pytest.approx(1)
    assert result["mutual_information"] == pytest.approx(
        sklearn.metrics.mutual_info_score(EXPERT, CLASS)
    )
    assert 0 < result["normalized_mutual_information"] < 1


@pytest.mark.parametrize("group", [[-1, -1, -1, -1], [0, 0, -1, 1]])
def test_unknown_groups_are_not_measured(group):
    result = metrics.routing_metrics(GATE, EXPERT, CLASS, np.array(group))
    assert "group_normalized_mutual_information" not in result


def test_experts_by_class():
    result = metrics.expert_by_class(
        expert=np.array([0, 0, 1, 0]),
        answer=np.array([2, 0, 1, 2]),
        label=np.array([2, 2, 1, 0]),
        num_experts=2,
        num_classes=3,
    )
    assert result["count"] == [[1, 0, 2], [0, 1, 0]]
    assert result["accuracy"] == [[0.0, None, 0.5], [None, 1.0, None]]


def test_mcnemar_by_hand():
    # 1 example that only a has right, 5 that only b has: 2 * (1 + 6) / 2^6
    a = np.array([True, False, False, False, False, False, True, True, False])
    b = np.array([False, True, True, True, True, True, True, True, False])
    assert metrics.mcnemar(a, b) == {
        "only_a": 1,
        "only_b": 5,
        "p_value": pytest.approx(14 / 64),
    }
    assert metrics.mcnemar(b, a)["p_value"] == pytest.approx(14 / 64)


def test_mcnemar_of_equals_finds_nothing():
    same = np.array([True, False, True])
    assert metrics.mcnemar(same, same) == {"only_a": 0, "only_b": 0, "p_value": 1.0}


def test_calibration_bins_by_hand():
    # 5 bins: (.6, .8] holds .7 (right) and .8 (wrong), (.8, 1] holds .9 and 1 (both right)
    bins = metrics.calibration_bins(two(0.7, 0.8, 0.9, 1.0), np.array([0, 1, 0, 0]), bins=5)
    assert bins["count"] == [0, 0, 0, 2, 2]
    assert bins["accuracy"] == [None, None, None, 0.5, 1]
    assert bins["confidence"] == [None] * 3 + [pytest.approx(0.75), pytest.approx(0.95)]


# Expert 4 gets classes 0, 0, 1; expert 7 gets class 2 alone.
BY_EXPERT = (np.array([4, 4, 4, 7]), np.array([0, 0, 1, 2]))


def test_dispatch_entropy_by_hand():
    # 3/4 of H(2/3, 1/3), 1/4 of H(1)
    within = -(2 / 3 * np.log(2 / 3) + 1 / 3 * np.log(1 / 3))
    assert metrics.dispatch_entropy(*BY_EXPERT) == pytest.approx(0.75 * within)
    assert metrics.dispatch_entropy(np.arange(4), BY_EXPERT[1]) == pytest.approx(0)


def test_dispatch_entropy_is_what_mutual_information_leaves():
    expert, label = np.random.default_rng(0).integers(5, size=(2, 300))
    whole = metrics.entropy(np.bincount(label) / 300)
    information = sklearn.metrics.mutual_info_score(expert, label)
    assert metrics.dispatch_entropy(expert, label) == pytest.approx(whole - information)


def test_purity_by_hand():
    assert metrics.purity(*BY_EXPERT) == 0.75  # 2 of class 0, 1 of class 2
    assert metrics.purity(np.zeros(4, int), BY_EXPERT[1]) == 0.5


def test_specialisation_is_among_the_routing_metrics():
    result = metrics.routing_metrics(GATE, EXPERT, CLASS, np.full(4, -1))
    # loads .75, .25, 0 and a mean of 1/3
    assert result["max_violation"] == pytest.approx(1.25)
    assert result["dispatch_entropy"] == metrics.dispatch_entropy(EXPERT, CLASS)
    assert result["purity"] == metrics.purity(EXPERT, CLASS) == 0.75


def test_information_from_counts_is_that_of_the_labellings():
    a, b = np.array([0, 0, 1, 1, 1, 2]), np.array([0, 1, 1, 1, 0, 0])
    count = np.array([[1, 1], [1, 2], [1, 0]])
    assert metrics.normalized_count_information(count) == pytest.approx(
        metrics.mutual_information(a, b)[1]
    )
    assert metrics.normalized_count_information(np.array([[3, 0], [2, 0]])) == 0.0
