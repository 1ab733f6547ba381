"""What the gate says by itself, by hand."""

import numpy as np
import pytest

from moe.evaluate.gate import HISTOGRAM_BINS, flipped_share, gate_report, routing_state

# Four examples, two experts: favourites 0, 0, 1, 1.
GATE = np.array([[1.0, 0.0], [0.5, 0.5], [0.2, 0.8], [0.06, 0.94]])
FAVOURITE = GATE.argmax(axis=1)


def test_the_gate_against_known_groups():
    group, names = np.array([0, 1, 1, 2]), ("a", "b", "c")
    confusion = gate_report(GATE, FAVOURITE, group, names)["confusion"]
    assert confusion == {"groups": ["a", "b", "c"], "count": [[1, 0], [1, 1], [0, 1]]}
    # What a balance bias outbids is not preferred.
    biased = gate_report(GATE, np.ones(4, int), group, names)["confusion"]
    assert biased["count"] == [[0, 1], [0, 2], [0, 1]]


@pytest.mark.parametrize(
    ("group", "names"), [([-1] * 4, ()), ([0, 0, -1, 1], ("a", "b")), ([0] * 4, ())]
)
def test_groups_that_are_not_known_have_no_confusion(group, names):
    assert gate_report(GATE, FAVOURITE, np.array(group), names)["confusion"] is None


def test_histograms_by_hand():
    report = gate_report(GATE, FAVOURITE, np.full(4, -1), ())
    for name, highest in (("confidence", 1), ("entropy", np.log(2))):
        edges, count = report[name]["edges"], report[name]["count"]
        assert (edges[0], edges[-1]) == (0, pytest.approx(highest))
        assert (len(edges), len(count)) == (HISTOGRAM_BINS + 1, HISTOGRAM_BINS)
    # confidence 1, .5, .8, .94; bins of .05
    filled = np.flatnonzero(report["confidence"]["count"])
    assert filled.tolist() == [10, 16, 18, 19]
    # entropy 0, ln 2, .5004, .2270; bins of .03466: none, the last, 14.4, 6.5
    assert np.flatnonzero(report["entropy"]["count"]).tolist() == [0, 6, 14, 19]


def test_a_single_expert_has_histograms_too():
    report = gate_report(np.ones((3, 1)), np.zeros(3, int), np.full(3, -1), ())
    assert report["entropy"]["count"][0] == 3


def test_the_state_of_a_gate_by_hand():
    state = routing_state(
        GATE,
        favourite=np.array([0, 0, 0, 1]),
        load=np.array([[1, 0], [0.5, 0.5], [0.5, 0.5], [0.5, 0.5]]),
        importance=GATE,
        label=np.array([0, 0, 2, 0]),
        group=np.array([0, 0, 0, -1]),
        num_classes=3,
    )
    entropies = [0, np.log(2), 0.5004024, 0.2269676]
    mass = np.array([1.76, 2.24]) / 4
    assert state == {
        "load": [0.625, 0.375],
        "importance": pytest.approx(mass),
        "effective_experts": pytest.approx(np.exp(-(mass * np.log(mass)).sum())),
        "dead_experts": 0,
        # n_ey / N log(N n_ey / n_e n_y)
        "mutual_information": pytest.approx(
            2 / 4 * np.log(8 / 9) + 1 / 4 * np.log(4 / 3) + 1 / 4 * np.log(4 / 3)
        ),
        "entropy": pytest.approx(np.mean(entropies), abs=1e-6),
        "confidence": pytest.approx((1 + 0.5 + 0.8 + 0.94) / 4),
        "expert_by_class": [[2, 0, 1], [1, 0, 0]],
    }


def test_flips():
    assert flipped_share(np.array([0, 1, 2, 2]), np.array([0, 2, 2, 1])) == 0.5
