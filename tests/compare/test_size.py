"""Controls are as large as the mixture: two per cent in MACs or in weights."""

from __future__ import annotations

import pytest

from moe.compare.size import check_whitened, members, targets, wide_backbones, widened
from moe.config.run import Config
from moe.data.shapes import shapes
from moe.defaults import resolve
from moe.errors import UserError
from moe.models import backbones, cost
from moe.models.build import build_mixture
from moe.taxonomy import resolve_groups

SHAPE = (16, 16, 3)


@pytest.fixture(scope="module")
def mixture():
    source = shapes()
    config = resolve(Config(), source, 3)
    return build_mixture(config, resolve_groups("semantic", source), SHAPE, len(source.classes))


def test_targets_are_what_runs_and_what_there_is(mixture):
    hard, soft = (cost.active_cost(mixture, running).macs for running in (1, 2))
    expected = {
        "wide-hard": hard,
        "wide-soft": soft,
        "tuned-hard": hard,
        "tuned-soft": soft,
        "wide-params": sum(found.parameters for found in cost.part_costs(mixture).values()),
    }
    assert targets(mixture) == expected


@pytest.mark.parametrize("backbone", ["mlp-64-32", pytest.param("tiny", marks=pytest.mark.slow)])
def test_a_wide_network_is_as_large_as_the_mixture(mixture, backbone):
    found = wide_backbones(targets(mixture), backbone, SHAPE, mixture)
    for name, target in targets(mixture).items():
        model = backbones.build(found[name], SHAPE, mixture.num_classes)
        size = cost.parameters(model) if name == "wide-params" else cost.macs(model)
        assert size == pytest.approx(target, rel=0.02)


def test_as_many_are_averaged_as_the_mixture_runs(mixture):
    # gate, baseline, and one or two experts
    assert members(mixture) == {"average-hard": 3, "average-soft": 4}


@pytest.mark.parametrize("target", [3, 90, 100, 1e4, 2.5e6])
@pytest.mark.parametrize("backbone", ["net", "net*2", "net*.5"])
def test_the_nearest_width_is_found_also_below_1(target, backbone):
    """Of a network whose size is 100 w², in steps."""

    def size(name):
        return round(10 * float(name.removeprefix("net*"))) ** 2

    name = widened(backbone, target, size)
    near = [(round(target**0.5) + step) ** 2 for step in (-1, 0, 1)]
    assert size(name) == min(near, key=lambda s: abs(s - target))


def test_a_control_that_cannot_whiten_is_refused_before_anything_is_trained():
    check_whitened({"wide-hard": "fast*2"}, (12, 12, 3), 5)
    with pytest.raises(UserError, match=r"wide-soft would be tiny\*9: --whiten: .*out of --arms"):
        check_whitened({"wide-soft": "tiny*9"}, (12, 12, 3), 5)


def test_a_network_of_one_width_cannot_be_a_control(mixture):
    with pytest.raises(UserError, match=r"my_net:build\*1: .* takes no argument `width`|cannot be"):
        wide_backbones(["wide-hard"], "my_net:build", SHAPE, mixture)
