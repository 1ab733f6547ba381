"""From `--sweep` flags to the cases that are measured."""

import pytest

from moe.benchmark import sweep
from moe.benchmark.cases import Case
from moe.benchmark.sweep import sweep_group
from moe.errors import UserError
from moe.sweep_axes import check_sweep, parse_sweep


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
        (["colour=red"], "another AXIS each time, of way, phase, dispatch"),
        (["batch_size"], "must be AXIS=VALUE"),
        (["load=zipf", "load=balanced"], "another AXIS each time"),
        (["batch_size=8,0"], "every value must be a positive integer"),
        (["batch_size=-1"], "every value must be a positive integer"),
        (["dispatch=sparse"], "every value must be one of soft, dense, routed"),
        (["jit_compile=yes"], "every value must be one of on, off"),
        (["expert=nobody"], "every value must be one of small"),
        (["batch_size=8,8"], "names a value twice"),
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


def test_a_way_is_compared_to_the_first_with_everything_else_alike(monkeypatch):
    made = []
    for maker in ("mixture_arm", "network_arm", "keras_arm"):
        monkeypatch.setattr(
            sweep, maker, lambda name, *args, maker=maker, **options: made.append((maker, options))
        )
    axes = {"way": ["ours", "stock", "keras"], "batch_size": [8, 32]}
    group = sweep_group(Case(expert="mlp-8"), axes)
    group.arms()
    assert [maker for maker, _ in made] == ["network_arm"] * 4 + ["keras_arm"] * 2
    assert [options["batch_size"] for _, options in made] == [8, 32] * 3
    peers = {question.arm: question.peer for question in group.questions}
    assert peers["way=keras, batch_size=32"] == "way=ours, batch_size=32"
    assert peers["way=ours, batch_size=32"] == "way=ours, batch_size=8"


@pytest.mark.parametrize(
    ("axes", "dispatch", "jit_compile", "message"),
    [
        ({"jit_compile": [False, True]}, "routed", False, "XLA .* needs fixed shapes"),
        ({"dispatch": ["routed", "dense"]}, "soft", True, "XLA .* needs fixed shapes"),
        ({"load": ["zipf"]}, "soft", False, "add --routing=hard or --sweep=dispatch"),
        ({"load": ["zipf"], "dispatch": ["soft"]}, "routed", False, "add --routing=hard"),
        ({"way": ["ours", "keras"], "load": ["zipf"]}, "routed", False, "alone has no load"),
        ({"way": ["ours", "keras"]}, "soft", True, "runs without XLA"),
    ],
)
def test_what_cannot_be_combined(axes, dispatch, jit_compile, message):
    with pytest.raises(UserError, match=message):
        check_sweep(axes, dispatch, jit_compile)


def test_what_can_be_combined():
    check_sweep({"load": ["zipf"]}, "routed", False)
    check_sweep({"load": ["zipf"], "dispatch": ["soft", "fixed"]}, "routed", True)
    check_sweep({"way": ["ours", "keras"], "batch_size": [1]}, "routed", False)
    check_sweep({"way": ["ours"]}, "routed", True)
