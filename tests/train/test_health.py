"""Every symptom by a record that shows it, and silence on healthy ones."""

from __future__ import annotations

import pytest

from moe.train.health import ALONE, FEW, NAMED, UNNAMED, HealthWatch, symptoms

EXPERTS = ("artificial", "natural")
SHARES = (0.4, 0.6)
HEALTHY = {
    "importance": [0.39, 0.61],
    "confidence": 0.96,
    "gate_accuracy": 0.96,
    "expert_by_class": [[40, 0], [0, 60]],
    "baseline_errors": 20,
    "mended": 5,
}
# An unnamed mixture that found its regions: as sure as can be, and right to be.
SPECIALISED = {"importance": [0.5, 0.5], "confidence": 1.0, "expert_by_class": [[50, 0], [0, 50]]}
# The same regions have nothing to do with classes: which cluster it is does not say which glyph.
CLUSTERED = SPECIALISED | {"expert_by_class": [[25, 25]] * 2, "expert_by_group": [[50, 0], [0, 50]]}
BLIND = SPECIALISED | {"expert_by_class": [[26, 24], [24, 26]]}


def names(record, shares=SHARES, experts=EXPERTS, size=100):
    known = {"experts": experts, "group_shares": shares, "size": size, "remedies": UNNAMED}
    return [(s.condition, s.expert) for s in symptoms(record, **known)]


@pytest.mark.parametrize(
    ("record", "shares"),
    [
        (HEALTHY, SHARES),
        (SPECIALISED, None),
        (CLUSTERED, None),
        # Hardly any example belongs to the first expert, so it should not get many.
        (HEALTHY | {"importance": [0.01, 0.99]}, (0.01, 0.99)),
        (HEALTHY | {"importance": [0.0, 1.0]}, (0.0, 1.0)),
        # Sure and nearly always right.
        (HEALTHY | {"confidence": 0.9995, "gate_accuracy": 0.95}, SHARES),
        # A baseline without a fault leaves nothing to mend, and one with a few next to nothing.
        (HEALTHY | {"baseline_errors": 0, "mended": 0}, SHARES),
        (HEALTHY | {"baseline_errors": 2, "mended": 0}, SHARES),
    ],
)
def test_a_healthy_mixture_has_no_symptom(record, shares):
    assert names(record, shares=shares) == []


@pytest.mark.parametrize(
    ("change", "shares", "expected"),
    [
        ({"importance": [0.04, 0.96]}, SHARES, ("collapse", "natural")),
        ({"importance": [1.0, 0.0]}, None, ("collapse", "artificial")),
        ({"confidence": 0.9995, "gate_accuracy": 0.6}, SHARES, ("saturated gate", "")),
        ({"mended": 0}, SHARES, ("experts mend nothing", "")),
    ],
)
def test_each_symptom_is_named(change, shares, expected):
    assert names(HEALTHY | change, shares=shares) == [expected]


def test_an_expert_without_examples_is_dead():
    experts = ("a", "b", "c")
    record = {"importance": [0.5, 0.0, 0.5], "confidence": 0.8, "expert_by_class": [[1, 1]] * 3}
    assert names(record, experts=experts, shares=None) == [("dead expert", "b")]
    # One that is always somebody's second choice is not.
    second = record | {"importance": [0.5, 0.02, 0.48]}
    assert names(second, experts=experts, shares=None) == []


def test_a_sure_gate_without_groups_is_judged_by_what_it_says_about_the_class():
    assert names(BLIND, shares=None) == [("saturated gate", "")]
    assert names(BLIND | {"confidence": 0.9}, shares=None) == []


@pytest.mark.parametrize("size", [12, 100])
def test_a_handful_of_examples_is_no_ground_for_alarm(size):
    """Iris: 12 validation examples, 4 for each of three experts."""
    many, experts = size >= 3 * FEW, ("a", "b", "c")
    sick = {
        "importance": [1.0, 0, 0],
        "confidence": 1.0,
        "expert_by_class": [[4, 4], *[[0, 0]] * 2],
    }
    dead = sick | {"importance": [0.6, 0.4, 0.0], "confidence": 0.9}
    assert names(dead, None, experts, size) == [("dead expert", "c")] * many
    found = [("collapse", "a"), ("saturated gate", "")]
    assert names(sick, None, experts, size) == found * many


def test_one_expert_is_always_sure():
    alone = {"importance": [1.0], "confidence": 1.0, "expert_by_class": [[50, 50]]}
    assert names(alone, shares=None, experts=("expert_0",)) == []


def test_the_first_epoch_is_no_ground_for_alarm_unless_it_is_the_last_one_too():
    watch = HealthWatch(EXPERTS, SHARES, 100, NAMED)
    sick = HEALTHY | {"importance": [0.0, 1.0]}
    assert watch.look(0, sick, last=False) is None
    assert watch.look(1, sick, last=False) is None
    for epoch, last in ((1, True), (2, False)):
        (symptom,) = watch.look(epoch, sick, last=last)
        assert symptom.key == ["collapse", "natural"]
    assert watch.look(2, HEALTHY, last=True) == []


def test_what_is_tried_fits_what_learns():
    sick = HEALTHY | {"importance": [0.0, 1.0]}
    for remedies, flag in ((NAMED, "--gate_supervision"), (ALONE, "--gate_backbone")):
        (symptom,) = HealthWatch(EXPERTS, SHARES, 100, remedies).look(2, sick, last=False)
        assert flag in str(symptom)
