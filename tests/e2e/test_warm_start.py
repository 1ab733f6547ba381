"""Weights of another run: the right ones arrive, and what does not fit is refused by name."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
from toy import CLASSES, toy_config, toy_source, untrained_run

from moe import run
from moe.data import registry
from moe.errors import UserError
from moe.train.checkpoint import CheckpointStore
from moe.train.stages import Stage, parts_of, stages_of
from moe.train.warm_start import count_starts, take_over
from moe.workspace import open_workspace

DONOR = {"seed": 9}
ALL = ["baseline", "combiner_0", "combiner_1", "expert_0", "expert_1", "gate"]


@pytest.fixture(scope="module")
def donors(tmp_path_factory):
    """Folders of finished runs by name; nobody writes there."""
    folder = tmp_path_factory.mktemp("donors")
    turned = folder / "turned.json"
    turned.write_text(json.dumps({"soft": CLASSES[2:], "sharp": CLASSES[:2]}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._GENERATED, "toy", toy_source)
        untrained_run(folder / "whole", **DONOR)
        untrained_run(folder / "turned", groups=str(turned), **DONOR)
        untrained_run(folder / "gate", "gate", **DONOR)
        untrained_run(folder / "wide", gate_backbone="mlp-9", baseline_backbone="mlp-16-16")
        untrained_run(folder / "unnamed", groups="none:2", **DONOR)
    return {path.name: path for path in folder.iterdir() if path.is_dir()}


def weights_of(workdir, part):
    store = CheckpointStore(workdir / "best")
    return store.read(store.newest(), part)


def start(donors, *specs, mode="joint", **flags):
    """What was taken over, and the new run's weights by part before and after."""
    named = tuple(re.sub(r"^\w+", lambda m: str(donors.get(m[0], m[0])), spec) for spec in specs)
    workspace = open_workspace(toy_config("nowhere", mode, init_from=named, **flags))
    mixture = workspace.build(tf.distribute.get_strategy(), "float32")

    def weights():
        return {name: part.get_weights() for name, part in mixture.parts().items()}

    before = weights()
    parts = parts_of(stages_of(workspace.config, workspace.groups, list(mixture.parts())))
    taken = take_over(workspace, mixture, parts)
    return taken, before, weights()


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("specs", "taken"),
    [
        (["whole"], {part: ("whole", part) for part in ALL}),
        (["whole:gate"], {"gate": ("whole", "gate")}),
        (["whole:soft"], {"expert_1": ("whole", "expert_1")}),
        (["whole:expert_0->soft"], {"expert_1": ("whole", "expert_0")}),
        (["whole:combiner_1->combiner_0"], {"combiner_0": ("whole", "combiner_1")}),
        # As in sparse upcycling: every expert starts as a copy of one network.
        (
            ["whole:baseline->sharp", "whole:baseline->soft"],
            {"expert_0": ("whole", "baseline"), "expert_1": ("whole", "baseline")},
        ),
        (["gate", "whole:sharp"], {"gate": ("gate", "gate"), "expert_0": ("whole", "expert_0")}),
        (["whole", "gate"], {part: ("whole", part) for part in ALL} | {"gate": ("gate", "gate")}),
        # Experts are told by their names; the gate, which numbers them otherwise, does not fit.
        (
            ["turned"],
            {
                "baseline": ("turned", "baseline"),
                **{f"expert_{e}": ("turned", f"expert_{1 - e}") for e in (0, 1)},
                **{f"combiner_{e}": ("turned", f"combiner_{1 - e}") for e in (0, 1)},
            },
        ),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else "",
)
def test_parts_start_from_the_weights_of_other_runs(toy, donors, specs, taken, capsys):
    found, before, after = start(donors, *specs)
    assert found == {part: f"{donors[run]}:{theirs}" for part, (run, theirs) in taken.items()}
    for part, weights in after.items():
        if part in taken:
            donor, theirs = taken[part]
            assert same(weights, weights_of(donors[donor], theirs))
            assert not same(weights, before[part])
        else:
            assert same(weights, before[part])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("specs", "flags", "message"),
    [
        (["nowhere"], {}, r"--init_from=nowhere: no run there \(config.json is missing\)"),
        (["whole:third"], {}, r"trained no third, but baseline, .*, sharp, soft, gate\.$"),
        (["gate:baseline"], {}, r"trained no baseline, but gate"),
        (["gate:gate->third"], {}, r"this run trains no third, but baseline, "),
        (["whole:soft"], {"groups": "none:2"}, r"this run trains no soft, but .*expert_0, "),
        (["whole:baseline"], {"mode": "gate"}, r"this run trains no baseline, but gate"),
        (["gate"], {"mode": "baseline"}, r"nothing fits by name; it trained gate, this run trains"),
        (["wide:gate"], {}, r"wide:gate does not fit gate: weight 1 is float32\[192, 9\] there and "
            r"float32\[192, 8\] here"),
        (["wide:baseline"], {}, r"baseline: weight 3 is float32\[16, 16\] there and"),
        (["whole:gate->baseline"], {}, r"whole:gate does not fit baseline: weight 1 is"),
        (["whole:expert_0"], {"expert_head": "group"}, r"expert_0: weight 3 is float32\[16, 5\] "
            r"there and float32\[16, 2\] here"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(toy, donors, specs, flags, message):
    with pytest.raises(UserError, match=message) as caught:
        start(donors, *specs, **flags)
    assert "\n" not in str(caught.value)


def test_a_first_layer_that_does_not_whiten_is_not_frozen(toy, donors):
    """It would stay as another run without whitening left it."""
    tiny = {f"{part}_backbone": "tiny*.1" for part in ("gate", "expert", "baseline")}
    with pytest.raises(UserError, match=r"whole:.* was trained without --whiten, .*use --nowhiten"):
        start(donors, "whole:baseline", whiten=True, **tiny)


def test_nothing_is_changed_where_something_does_not_fit(toy, donors):
    config = toy_config("nowhere", init_from=(f"{donors['whole']}:baseline", str(donors["wide"])))
    workspace = open_workspace(config)
    mixture = workspace.build(tf.distribute.get_strategy(), "float32")
    before = mixture.baseline.get_weights()
    with pytest.raises(UserError, match="does not fit"):
        take_over(workspace, mixture, ALL)
    assert same(mixture.baseline.get_weights(), before)


def test_an_unfinished_run_gives_nothing(toy, donors, tmp_path):
    shutil.copytree(donors["gate"], tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "best")
    with pytest.raises(UserError, match=r"--init_from=.*run: the run is not finished"):
        start({"run": tmp_path / "run"}, "run:gate")


@pytest.mark.parametrize(
    ("specs", "flags", "warns"),
    [
        (["turned:gate"], {}, "turned:gate tells other things apart than gate here"),
        (["whole:gate"], {"groups": "none:2"}, "whole:gate tells other things apart"),
        (["unnamed:expert_0->sharp"], {}, None),
    ],
)
def test_outputs_that_mean_something_else_are_warned_of(toy, donors, specs, flags, warns, capsys):
    start(donors, *specs, **flags)
    said = capsys.readouterr().err
    assert (warns is None and said == "") or warns in said


@pytest.mark.parametrize(
    ("parts", "counted", "filled", "counts"),
    [
        (("gate",), False, {"gate"}, True),
        (("gate",), False, {"baseline"}, False),
        (("gate", "baseline"), False, {"gate"}, False),
        (("gate", "baseline"), False, {"gate", "baseline", "expert_0"}, True),
        (("combiner_0",), True, set(), True),
    ],
)
def test_a_stage_may_be_best_at_its_start_where_all_of_it_was_learned(
    parts, counted, filled, counts
):
    (stage,) = count_starts([Stage("s", "part", parts, start_counts=counted)], filled)
    assert stage == Stage("s", "part", parts, start_counts=counts)


def test_a_run_that_starts_warm_and_goes_on_without_its_donor(toy, donors, tmp_path, capsys):
    donor = shutil.copytree(donors["gate"], tmp_path / "donor")
    # So small a rate that the start remains the best.
    flags = {"init_from": (f"{donor}:gate",), "learning_rate": 1e-9, "monitor": "loss"}
    workdir = tmp_path / "run"
    assert run.train(toy_config(workdir, "gate", epochs=1, **flags)) == 0
    assert f"starts with weights of other runs: gate from {donor}:gate" in capsys.readouterr().err
    stored = json.loads((workdir / "config.json").read_text())["initial"]
    assert stored == {"gate": f"{donor}:gate"}
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").open()]
    assert [row["epoch"] for row in rows if row["split"] == "validation"] == [0, 1]
    for mine, theirs in zip(weights_of(workdir, "gate"), weights_of(donor, "gate"), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)
    with pytest.raises(UserError, match=r"holds another run: --init_from= \(was .*donor:gate\)"):
        run.train(toy_config(workdir, "gate", epochs=1, **flags | {"init_from": ()}))
    shutil.rmtree(donor)
    assert run.train(toy_config(workdir, "gate", epochs=2, **flags)) == 0
    assert json.loads((workdir / "config.json").read_text())["initial"] == stored
