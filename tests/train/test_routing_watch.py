import numpy as np

from moe.train.routing_watch import Routed, RoutingWatch

LABEL = np.array([0, 1, 1, 0])
GROUP = np.array([0, 0, 1, 1])


def _routed(*favourites, gate=None):
    one = np.eye(3)[list(favourites)]
    gate = np.where(one if gate is None else np.eye(3)[list(gate)], 0.8, 0.1)
    favourite = np.array(favourites, np.int32)
    return Routed(np.log(gate).astype(np.float32), favourite, one.astype("f"), one.astype("f"))


def _watch(group=GROUP):
    return RoutingWatch(LABEL, group, num_classes=2)


def test_flips_are_counted_from_the_second_look_on():
    watch = _watch()
    assert "routing_flips" not in watch.look(_routed(0, 1, 2, 2))
    assert watch.look(_routed(0, 1, 1, 0))["routing_flips"] == 0.5
    assert watch.look(_routed(0, 1, 1, 0))["routing_flips"] == 0


def test_the_routing_is_described_as_it_was_carried_out():
    """Whatever the gate itself would have preferred: a balance bias may have outbid it."""
    found = _watch().look(_routed(0, 1, 1, 1, gate=(2, 2, 2, 2)))
    assert found["load"] == found["importance"] == [0.25, 0.75, 0]
    assert found["expert_by_class"] == [[1, 0], [1, 2], [0, 0]]
    assert found["expert_by_group"] == [[1, 0], [1, 2], [0, 0]]
    assert found["dead_experts"] == 1 / 3
    # Expert 0 has one example of class 0: 1/4 log 2 + 1/4 log (1/4 / 3/8) + 1/2 log (1/2 / 3/8).
    expected = 0.25 * np.log(2) + 0.25 * np.log(2 / 3) + 0.5 * np.log(4 / 3)
    np.testing.assert_allclose(found["mutual_information"], expected)
    mass = np.array([0.1, 0.1, 0.8])  # of the gate
    np.testing.assert_allclose(
        found["effective_experts"], np.exp(-(mass * np.log(mass)).sum()), 1e-6
    )
    assert "expert_by_group" not in _watch(np.full(4, -1)).look(_routed(0, 1, 1, 1))


def test_another_process_goes_on_from_what_was_saved():
    watch = _watch()
    watch.look(_routed(0, 1, 2, 2))
    continued = _watch()
    for mine, saved in zip(continued.state(), watch.state(), strict=True):
        mine.assign(saved)
    assert continued.look(_routed(1, 1, 2, 2))["routing_flips"] == 0.25
