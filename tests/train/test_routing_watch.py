import numpy as np

from moe.train.routing_watch import RoutingWatch

LABEL = np.array([0, 1, 1, 0])


def _gate(*favourites):
    return np.log(np.where(np.eye(3)[list(favourites)], 0.8, 0.1)).astype(np.float32)


def test_flips_are_counted_from_the_second_look_on():
    watch = RoutingWatch(LABEL, num_classes=2)
    assert "routing_flips" not in watch.look(_gate(0, 1, 2, 2))
    assert watch.look(_gate(0, 1, 1, 0))["routing_flips"] == 0.5
    assert watch.look(_gate(0, 1, 1, 0))["routing_flips"] == 0


def test_the_gate_is_described():
    found = RoutingWatch(LABEL, num_classes=2).look(_gate(0, 1, 1, 1))
    assert found["load"] == [0.25, 0.75, 0]
    assert found["expert_by_class"] == [[1, 0], [1, 2], [0, 0]]


def test_another_process_goes_on_from_what_was_saved():
    watch = RoutingWatch(LABEL, num_classes=2)
    watch.look(_gate(0, 1, 2, 2))
    continued = RoutingWatch(LABEL, num_classes=2)
    for mine, saved in zip(continued.state(), watch.state(), strict=True):
        mine.assign(saved)
    assert continued.look(_gate(1, 1, 2, 2))["routing_flips"] == 0.25
