"""From `--sweep` flags to the cases that are measured."""

import pytest

from moe.benchmark import sweep
from moe.benchmark.cases import Case
from moe.benchmark.sweep import parse_sweep, sweep_group
from moe.errors import UserError


def test_values_by_axis():
    found = parse_sweep(["batch_size=8,32", "jit_compile=on,off", "expert=mlp-8,deep"])
    assert found == {
        "batch_size": [8, 32],
        "jit_compile": [True, False],
        "expert": ["mlp-8", "deep"],
    }


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["colour=red"], "another AXIS each time, of phase, dispatch"),
        (["batch_size"], "must be AXIS=VALUE"),
        (["load=zipf", "load=balanced"], "another AXIS each time"),
        (["batch_size=8,0"], "every value must be a positive integer"),
        (["batch_size=-1"], "every value must be a positive integer"),
        (["dispatch=sparse"], "every value must be one of soft, dense, routed"),
        (["jit_compile=yes"], "every value must be one of on, off"),
        (["expert=nobody"], "backbone nobody"),
    ],
)
def test_what_cannot_be_swept(texts, message):
    with pytest.raises(UserError, match=message):
        parse_sweep(texts)


def test_every_combination_is_compared_to_the_first(monkeypatch):
    monkeypatch.setattr(sweep, "mixture_arm", lambda name, case: (name, case))
    base = Case(expert="mlp-8")
    group = sweep_group(base, {"dispatch": ["routed", "dense"], "num_experts": [2, 4]})
    arms = dict(group.arms())
    assert list(arms) == [
        "dispatch=routed, num_experts=2",
        "dispatch=routed, num_experts=4",
        "dispatch=dense, num_experts=2",
        "dispatch=dense, num_experts=4",
    ]
    last = arms["dispatch=dense, num_experts=4"]
    assert (last.dispatch, last.num_experts, last.expert) == ("dense", 4, "mlp-8")
    assert {question.peer for question in group.questions} == {"dispatch=routed, num_experts=2"}
    assert [question.arm for question in group.questions] == list(arms)[1:]


def test_xla_cannot_route():
    with pytest.raises(UserError, match="jit_compile=on: XLA needs fixed shapes"):
        sweep_group(Case(dispatch="routed"), {"jit_compile": [False, True]})
