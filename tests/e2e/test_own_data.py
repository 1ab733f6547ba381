"""Data sets that the project has never seen train from configuration to results."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from tfds_sets import prepare
from toy import toy_config

from moe import run
from moe.config.tools import EvalConfig
from moe.data.partitions import PARTITIONS
from moe.errors import UserError
from moe.evaluate.run import evaluate


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _results(workdir):
    return json.loads((workdir / "results.json").read_text())


@pytest.mark.slow
def test_cifar100_trains_one_expert_a_super_class(tmp_path):
    partition = PARTITIONS["cifar100"]
    fine = sorted(sum(partition.values(), ()))
    image = tfds.features.Image(shape=(32, 32, 3))
    rng = np.random.default_rng(0)

    def draw(each):
        return [
            (rng.integers(0, 256, (32, 32, 3)).astype(np.uint8), label)
            for label in np.repeat(np.arange(100), each).tolist()
        ]

    prepare(
        tmp_path / "tfds",
        "cifar100",
        {"train": draw(2), "test": draw(1)},
        classes=fine,
        image=image,
        version="3.0.2",
        coarse_label=tfds.features.ClassLabel(names=list(partition)),
    )
    short = {
        "data_dir": str(tmp_path / "tfds"),
        "dataset": "cifar100",
        "image_size": 8,
        "validation_fraction": 0.3,
        "batch_size": 5,
        "steps": 2,
        "baseline": False,
        "expert_head": "group",
        "gate_backbone": "tiny",
        "expert_backbone": "mlp-8",
    }
    for mode, routing in (("joint", "soft"), ("separate", "hard")):
        workdir = tmp_path / mode
        assert run.train(toy_config(workdir, mode, routing=routing, **short)) == 0
        results = _results(workdir)
        assert results["groups"] == list(partition)
        assert len(results["parts"]["experts"]) == 20
        assert len(results["routing_metrics"]["load"]) == 20
        assert results["examples"] == {"train": 100, "validation": 100, "test": 100}


def test_folders_of_seven_kinds_and_groups_down_to_one_of_them(tmp_path, capsys):
    root = tmp_path / "pictures"
    rng = np.random.default_rng(0)
    for kind in range(7):
        (root / f"kind {kind}").mkdir(parents=True)
        for number in range(12):
            pixels = rng.integers(0, 60, (10 + number % 3, 12, 3)).astype(np.uint8)
            pixels[:, kind : kind + 3, kind % 3] += 150
            Image.fromarray(pixels).save(root / f"kind {kind}" / f"{number}.png")
    (root / "kind 3" / "note.txt").write_text("no image")
    groups = tmp_path / "groups.json"
    members = [[0], [1, 2], [3, 4, 5, 6]]
    content = {f"g{len(m)}": [f"kind {kind}" for kind in m] for m in members}
    groups.write_text(json.dumps(content))
    flags = {"image_size": 12, "skip_unreadable": True, "class_weights": "balanced"}
    flags |= {"baseline": False, "boost": "none", "learning_rate": 1e-2}
    config = toy_config(
        tmp_path / "run",
        "separate",
        dataset=f"folder:{root}",
        groups=str(groups),
        expert_head="group",
        batch_size=6,
        epochs=4,
        **flags,
    )
    assert run.train(config) == 0
    results = _results(tmp_path / "run")
    assert results["groups"] == ["g1", "g2", "g4"]
    assert results["parts"]["experts"]["g1"]["accuracy"] == 1
    assert results["test"]["accuracy"] > 0.6  # chance is 0.14
    assert "1 of 68 files for train are skipped" in capsys.readouterr().err


def _table(path, colours=("red", "blue", "green")):
    rng = np.random.default_rng(0)
    lines = ["number,width,colour,place,kind"]
    for n in range(150):
        kind = n % 3
        width = "" if n % 17 == 0 else f"{kind + rng.normal() / 2:.2f}"
        colour = colours[kind] if n % 5 else "grey"
        lines.append(f"{n},{width},{colour},{('here', 'there')[n % 2]},k{kind}")
    path.write_text("\n".join(lines))


def test_a_table_of_numbers_and_words(tmp_path):
    path = tmp_path / "table.csv"
    _table(path)
    config = toy_config(
        tmp_path / "run",
        dataset=f"csv:{path}?label=kind&drop=number",
        augment=None,
        class_weights="balanced",
        epochs=6,
    )
    assert run.train(config) == 0
    results = _results(tmp_path / "run")
    assert results["classes"] == ["k0", "k1", "k2"]
    assert results["examples"] == {"train": 108, "validation": 12, "test": 30}
    assert results["test"]["accuracy"] > 0.8
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert [column["name"] for column in stored["data"]["table"]["columns"]] == [
        *("width", "colour", "place")
    ]
    assert stored["class_weights"] == {"k0": 1.0, "k1": 1.0, "k2": 1.0}
    assert run.train(config) == 0  # finished: says so again
    evaluation = EvalConfig(workdir=str(tmp_path / "run"), report=False)
    assert evaluate(evaluation) == 0
    _table(path, ("red", "blue", "pink"))
    for again in (lambda: run.train(config), lambda: evaluate(evaluation)):
        with pytest.raises(
            UserError, match=r"is no longer what the run was begun with \(other tab"
        ):
            again()


def test_weights_that_are_no_longer_those_of_the_run_are_refused(tmp_path, toy):
    weights = tmp_path / "weights.json"
    weights.write_text('{"dot": 2}')
    config = toy_config(tmp_path / "run", "baseline", steps=1, class_weights=str(weights))
    assert run.train(config) == 0
    weights.write_text('{"dot": 3}')
    with pytest.raises(
        UserError, match=r"--class_weights=.*'dot': 3.0.* was begun with .*'dot': 2"
    ):
        run.train(config)
    weights.unlink()
    assert evaluate(EvalConfig(workdir=str(tmp_path / "run"), report=False)) == 0
