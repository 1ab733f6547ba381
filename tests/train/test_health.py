"""Every symptom by a record that shows it, and silence on healthy ones."""

from __future__ import annotations

import pytest

from moe.train.health import HealthWatch, symptoms

EXPERTS = ("artificial", "natural")
SHARES = (0.4, 0.6)
HEALTHY = {
    "load": [0.39, 0.61],
    "confidence": 0.96,
    "gate_accuracy": 0.96,
    "expert_by_class": [[40, 0], [0, 60]],
    "baseline_errors": 20,
    "mended": 5,
}
# An unnamed mixture that found its regions: as sure as can be, and right to be.
SPECIALISED = {"load": [0.5, 0.5], "confidence": 1.0, "expert_by_class": [[50, 0], [0, 50]]}


def names(record, epoch=2, shares=SHARES, experts=EXPERTS):
    found = symptoms(epoch, record, experts=experts, group_shares=shares)
    return [(s.name, s.who) for s in found]


@pytest.mark.parametrize(
    ("record", "shares"),
    [
        (HEALTHY, SHARES),
        (SPECIALISED, None),
        # Hardly any example belongs to the first expert, so it should not get many.
        (HEALTHY | {"load": [0.01, 0.99]}, (0.01, 0.99)),
        (HEALTHY | {"load": [0.0, 1.0]}, (0.0, 1.0)),
        # Sure and nearly always right.
        (HEALTHY | {"confidence": 0.9995, "gate_accuracy": 0.95}, SHARES),
        # A baseline without a fault leaves nothing to mend.
        (HEALTHY | {"baseline_errors": 0, "mended": 0}, SHARES),
    ],
)
def test_a_healthy_mixture_has_no_symptom(record, shares):
    assert names(record, shares=shares) == []


@pytest.mark.parametrize(
    ("change", "shares", "expected"),
    [
        ({"load": [0.04, 0.96]}, SHARES, ("collapse", "natural")),
        ({"load": [1.0, 0.0]}, None, ("collapse", "artificial")),
        ({"confidence": 0.9995, "gate_accuracy": 0.6}, SHARES, ("saturated gate", "")),
        ({"mended": 0}, SHARES, ("experts mend nothing", "")),
    ],
)
def test_each_symptom_is_named(change, shares, expected):
    assert names(HEALTHY | change, shares=shares) == [expected]


def test_an_expert_without_examples_is_dead():
    experts = ("a", "b", "c")
    record = {"load": [0.5, 0.0, 0.5], "confidence": 0.8, "expert_by_class": [[1, 1]] * 3}
    assert names(record, experts=experts, shares=None) == [("dead expert", "b")]


def test_a_sure_gate_without_groups_is_judged_by_what_it_says_about_the_class():
    blind = SPECIALISED | {"expert_by_class": [[26, 24], [24, 26]]}
    assert names(blind, shares=None) == [("saturated gate", "")]
    assert names(blind | {"confidence": 0.9}, shares=None) == []


def test_the_first_epoch_is_no_ground_for_alarm():
    assert names(HEALTHY | {"load": [0.0, 1.0]}, epoch=1) == []


def test_a_symptom_is_said_once_until_it_has_gone():
    watch = HealthWatch(EXPERTS, SHARES)
    sick = HEALTHY | {"load": [0.0, 1.0]}
    said = [len(watch.look(epoch, r)) for epoch, r in enumerate([sick, sick, sick, HEALTHY, sick])]
    assert said == [0, 0, 1, 0, 1]
