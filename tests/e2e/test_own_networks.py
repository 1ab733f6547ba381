"""Any Keras model can be a gate, an expert or a baseline."""

from __future__ import annotations

import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf
from toy import toy_config

from moe import run
from moe.errors import UserError
from moe.models import backbones


def _tensors(workdir):
    reader = tf.train.load_checkpoint(str(workdir / "best" / "ckpt-1"))
    names = reader.get_variable_to_shape_map()
    return {name: reader.get_tensor(name) for name in names if name.endswith("VARIABLE_VALUE")}


@pytest.mark.parametrize("mode", ["joint", pytest.param("separate", marks=pytest.mark.slow)])
def test_a_frozen_expert_stays_as_it_is(toy, tmp_path, mode):
    flags = {"expert_backbone": "e2e.my_networks:frozen", "routing": "hard", "monitor": "loss"}
    run.train(toy_config(tmp_path / "short", mode, epochs=1, **flags))
    run.train(toy_config(tmp_path / "long", mode, epochs=2, **flags))
    short, long = _tensors(tmp_path / "short"), _tensors(tmp_path / "long")
    for name, before in short.items():
        same = np.array_equal(before, long[name])
        assert same == name.startswith(("expert_", "standardize")), name


def test_a_new_head_on_a_frozen_body_is_all_that_learns(toy, tmp_path):
    flags = {"gate_backbone": "e2e.my_networks:tuned_head", "monitor": "loss"}
    for epochs in (1, 2):
        run.train(toy_config(tmp_path / str(epochs), "gate", epochs=epochs, **flags))
    short, long = (
        {n: v for n, v in _tensors(tmp_path / name).items() if n.startswith("gate/")}
        for name in "12"
    )
    moved = [before.shape for name, before in short.items() if (before != long[name]).any()]
    assert sorted(moved) == [(2,), (6, 2)]
    assert len(short) == 6


def test_batch_statistics_do_not_go_with_fixed_shapes(toy, tmp_path):
    flags = {"expert_backbone": "e2e.my_networks:normalised_rows", "jit_compile": True}
    with pytest.raises(UserError, match=r"expert_0: --jit_compile fills the batches"):
        run.train(toy_config(tmp_path / "run", "joint", routing="hard", **flags))
    assert not (tmp_path / "run").exists()


def test_a_foreign_stochastic_layer_draws_from_the_step(toy, tmp_path):
    flags = {"baseline_backbone": "e2e.my_networks:with_foreign_dropout"}
    for steps in (1, 4):
        run.train(toy_config(tmp_path / str(steps), "baseline", steps_per_loop=steps, **flags))
    one, four = _tensors(tmp_path / "1"), _tensors(tmp_path / "4")
    for name, value in one.items():
        np.testing.assert_array_equal(value, four[name])


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("e2e.my_networks:wrong_outputs", r"must return a Keras model with outputs \(None, 5\)"),
        ("e2e.my_networks:missing", "cannot be imported"),
        ("nowhere:net", "cannot be imported"),
        ("huge", "must be one of small, deep"),
    ],
)
def test_a_backbone_that_does_not_fit_is_refused(toy, tmp_path, backbone, message):
    with pytest.raises(UserError, match=message):
        run.train(toy_config(tmp_path, "baseline", baseline_backbone=backbone))


def test_the_mixture_of_the_guide_works_as_it_is_written():
    """Runs the snippets of "In a Keras model of yours"."""
    page = (pathlib.Path(__file__).parents[2] / "docs" / "library.md").read_text(encoding="utf-8")
    section = re.search(r"## In a Keras model of yours\n(.*?)\n## ", page, re.DOTALL)[1]
    called, routed, forward = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    shape = (32, 32, 3)
    parts = {name: backbones.build("mlp-4", shape, 10) for name in ("a", "b", "baseline")}
    parts |= {f"combiner_{name}": backbones.build("mlp-4", shape, 10) for name in "ab"}
    names = parts | {"gate": backbones.build("mlp-4", shape, 2), "label": np.arange(5) % 2}
    names["images"] = np.zeros([5, *shape], np.uint8)
    exec(called + forward, names)
    np.testing.assert_allclose(tf.reduce_sum(names["probabilities"], axis=1), 1, atol=1e-5)
    assert names["output"].routing.expert_index.shape == (5, 1)
    names |= {name: backbones.build("mlp-4", shape, 10) for name in "abc"}
    names["gate"] = backbones.build("mlp-4", shape, 6)  # two outputs an expert
    exec(routed, names)
