"""`eval.py` on runs that were really trained: what it finds, writes and leaves alone."""

from __future__ import annotations

import dataclasses
import itertools
import json
import pathlib
import shutil
from collections.abc import Callable

import numpy as np
import pytest
from toy import TEST, toy_config, toy_source, untrained_run

from moe import run, workspace
from moe.config.tools import EvalConfig
from moe.data import registry
from moe.data.source import Examples, Source
from moe.errors import UserError
from moe.evaluate.compare import show
from moe.evaluate.run import evaluate


def _clustered() -> Source:
    """The toy set with known clusters in place of a partition of its classes."""
    source = toy_source()

    def with_clusters(read: Callable[[], Examples]) -> Callable[[], Examples]:
        return lambda: read()._replace(group=read().label % 2)

    return dataclasses.replace(
        source,
        partition=None,
        example_groups=("even", "odd"),
        train=with_clusters(source.train),
        test=with_clusters(source.test),
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folders of finished runs by name; nobody writes there."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._GENERATED, "toy", toy_source)
        run.train(toy_config(folder / "hard", "separate", routing="hard"))
        run.train(toy_config(folder / "soft", "joint", groups="none:3", epochs=1))
        run.train(toy_config(folder / "alone", "baseline", epochs=1))
        patch.setitem(registry._GENERATED, "toy", _clustered)
        run.train(toy_config(folder / "clusters", "joint", groups="none:2", epochs=1))
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture
def copy_of(toy, trained, tmp_path):
    """Copies a finished run and returns the copy's folder."""
    return lambda name: pathlib.Path(shutil.copytree(trained[name], tmp_path / name))


def _evaluate(workdir: pathlib.Path, *routing: str, **flags) -> dict:
    flags = {"report": False} | flags
    assert evaluate(EvalConfig(workdir=str(workdir), routing=routing, **flags)) == 0
    return json.loads((workdir / "evaluation.json").read_text())


def _results(workdir: pathlib.Path) -> dict:
    return json.loads((workdir / "results.json").read_text())


def test_evaluation_repeats_the_run_and_knows_other_routings(copy_of):
    workdir = copy_of("hard")
    routings = ("hard", "soft", "oracle", "oracle_best", "random", "uniform", "baseline")
    found = _evaluate(workdir, *routings, "expert:soft")
    results = _results(workdir)
    assert found["routings"]["hard"]["accuracy"] == results["test"]["accuracy"]
    assert found["parts"] == results["parts"]
    assert found["routed_against_dense"]["hard"] < 1e-5
    assert found["examples"] == TEST
    best = found["routings"]["oracle_best"]["accuracy"]
    assert all(best >= found["routings"][name]["accuracy"] for name in ("hard", "oracle"))
    assert np.sum(found["routings"]["soft"]["confusion"]) == TEST


def test_evaluation_writes_its_own_predictions_and_leaves_those_of_the_run_alone(copy_of):
    workdir = copy_of("hard")
    before = (workdir / "predictions.npz").read_bytes()
    written = set(workdir.glob("*.npz"))
    _evaluate(workdir, "hard", "expert:sharp", precision="mixed_bfloat16")
    found = _evaluate(workdir, "hard", eval_split="validation")
    assert (workdir / "predictions.npz").read_bytes() == before
    names = {path.name for path in set(workdir.glob("*.npz")) - written}
    assert names == {
        "predictions-hard.npz",
        "predictions-expert-sharp.npz",
        "predictions-validation-hard.npz",
    }
    with np.load(workdir / "predictions-validation-hard.npz") as predictions:
        accuracy = (predictions["answer"] == predictions["label"]).mean()
    assert found["split"] == "validation"
    assert found["routings"]["hard"]["accuracy"] == pytest.approx(accuracy)


def test_uniform_routing_favours_no_expert(copy_of, capsys):
    workdir = copy_of("soft")
    found = _evaluate(workdir, "uniform")["routings"]["uniform"]
    assert found["routing_metrics"]["load"] == pytest.approx([1 / 3] * 3)
    assert found["expert_by_class"] is None
    printed = capsys.readouterr().out
    assert "0.33 0.33 0.33" in printed
    assert "uniform: no one expert answers" in printed
    with np.load(workdir / "predictions-uniform.npz") as predictions:
        assert set(predictions["expert"]) == {-1}


def test_gpus_that_training_did_not_find_are_not_missed_again(copy_of, capsys):
    workdir = copy_of("soft")
    stored = json.loads((workdir / "config.json").read_text())
    stored["config"]["runtime"] |= {"gpus": 99, "require_gpus": True, "cpu_replicas": 2}
    (workdir / "config.json").write_text(json.dumps(stored))
    _evaluate(workdir, "soft")
    assert capsys.readouterr().err == ""


def test_topk_is_never_silently_the_best_one_alone(copy_of, capsys):
    workdir = copy_of("soft")
    found = _evaluate(workdir, "hard", "topk", "soft")
    assert found["top_k"] == 2
    assert "topk, K=2" in capsys.readouterr().out
    nll = {name: routing["nll"] for name, routing in found["routings"].items()}
    assert len(set(nll.values())) == 3
    every = _evaluate(workdir, "topk", top_k=3)
    assert every["routings"]["topk"]["nll"] == pytest.approx(nll["soft"], abs=1e-5)
    assert every["routed_against_dense"]["topk"] < 1e-5
    assert _evaluate(workdir, "soft")["top_k"] is None
    with pytest.raises(UserError, match=r"--top_k=2: is for --routing=topk, not soft"):
        _evaluate(workdir, top_k=2)


def test_of_a_gate_with_a_bias_what_it_sends_is_judged(toy, tmp_path):
    """The gate's own favourites are others, and nobody acts on them."""
    workdir = untrained_run(tmp_path, routing="hard", balance_bias=0.5)
    found = _evaluate(workdir, "hard", "oracle")
    with np.load(workdir / "predictions-hard.npz") as stored:
        sent, group = stored["expert"], stored["group"]
        assert (stored["gate_probabilities"].argmax(axis=1) != sent).any()
    right = int((sent == group).sum())
    assert found["parts"]["gate"]["accuracy"] == pytest.approx(right / TEST)
    assert np.trace(found["gate"]["confusion"]["count"]) == right
    for under in found["routings"].values():  # an oracle has asked no gate
        assert sum(row["count"] for row in under["attribution"] if row["gate"]) == right


def test_experts_without_names_have_no_oracle_also_where_clusters_are_known(copy_of, monkeypatch):
    monkeypatch.setitem(registry._GENERATED, "toy", _clustered)
    workdir = copy_of("clusters")
    before = {path: path.stat().st_mtime_ns for path in workdir.iterdir()}
    with pytest.raises(UserError, match=r"--routing=oracle: .*use oracle_best"):
        _evaluate(workdir, "soft", "oracle")
    assert {path: path.stat().st_mtime_ns for path in workdir.iterdir()} == before
    found = _evaluate(workdir, "soft", "oracle_best")
    assert found["parts"]["gate"] == {"accuracy": None}
    # How far experts and clusters agree needs no names.
    assert "group_normalized_mutual_information" in found["routings"]["soft"]["routing_metrics"]


def test_a_mixture_beside_a_baseline_and_another_mixture(trained, copy_of, capsys):
    names = (str(copy_of("hard")), str(trained["alone"]), str(trained["soft"]))
    assert show(names) == 0
    comparison = json.loads((pathlib.Path(names[0]) / "comparison.json").read_text())
    runs = comparison["runs"]
    for name in names:
        results = _results(pathlib.Path(name))
        assert {key: runs[name][key] for key in results} == results
        assert np.sum(runs[name]["confusion"]) == TEST
    pairs = [(test["a"], test["b"]) for test in comparison["mcnemar"]]
    assert pairs == list(itertools.combinations(names, 2))
    for test in comparison["mcnemar"]:
        gap = runs[test["a"]]["test"]["accuracy"] - runs[test["b"]]["test"]["accuracy"]
        assert (test["only_a"] - test["only_b"]) / TEST == pytest.approx(gap)
    assert "expert sharp %" in capsys.readouterr().out


def test_soft_routing_spares_experts_below_a_threshold(copy_of, capsys):
    workdir = copy_of("soft")
    everyone = _evaluate(workdir, "soft")
    assert everyone["experts_per_example"] is None
    spared = _evaluate(workdir, "soft", gate_threshold=0.34)
    assert 1 <= spared["experts_per_example"] < 3
    assert "run for an example" in capsys.readouterr().out
    assert spared["routed_against_dense"]["soft"] < 1e-5
    assert _evaluate(workdir, "soft", gate_threshold=1.0)["experts_per_example"] == 1.0
    with pytest.raises(UserError, match=r"--gate_threshold=0.5: is for --routing=soft, not hard"):
        _evaluate(workdir, "hard", gate_threshold=0.5)


def _change_data(workdir: pathlib.Path, **changes) -> None:
    stored = json.loads((workdir / "config.json").read_text())
    stored["config"]["data"] |= changes
    (workdir / "config.json").write_text(json.dumps(stored))


def test_a_groups_file_that_is_gone_is_not_missed(copy_of):
    workdir = copy_of("hard")
    _change_data(workdir, groups=str(workdir / "gone.json"))
    found = _evaluate(workdir, "hard")
    assert found["groups"] == ["sharp", "soft"]
    assert found["routings"]["hard"]["accuracy"] == _results(workdir)["test"]["accuracy"]


def test_where_the_data_is_looked_for(copy_of, monkeypatch, tmp_path):
    workdir = copy_of("alone")
    asked = []
    original = workspace.open_source

    def spy(name, data_dir, *options):
        asked.append(data_dir)
        return original(name, data_dir, *options)

    monkeypatch.setattr(workspace, "open_source", spy)
    here, gone = str(tmp_path), str(tmp_path / "gone")
    monkeypatch.setenv("TFDS_DATA_DIR", "environment")
    for stored, flag in ((here, None), (gone, None), (None, None), (here, "flag")):
        _change_data(workdir, data_dir=stored)
        _evaluate(workdir, data_dir=flag)
    monkeypatch.delenv("TFDS_DATA_DIR")
    _change_data(workdir, data_dir=gone)
    _evaluate(workdir)
    assert asked == [here, "environment", "environment", "flag", gone]


@pytest.mark.parametrize("name", ["hard", "soft", "clusters"])
def test_what_training_ends_with_is_an_evaluation_that_adds_up(trained, name):
    evaluation, results = (
        json.loads((trained[name] / file).read_text())
        for file in ("evaluation.json", "results.json")
    )
    assert evaluation["split"] == "test"
    assert evaluation["parts"] == results["parts"]
    ((routing, found),) = evaluation["routings"].items()
    assert routing == results["routing"]
    assert {key: found[key] for key in results["test"]} == results["test"]
    assert found["routing_metrics"] == results["routing_metrics"]
    accuracy, rows = found["accuracy"], found["attribution"]
    assert sum(row["count"] for row in rows) == sum(found["calibration"]["count"]) == TEST
    assert sum(row["count"] for row in rows if row["mixture"]) == round(accuracy * TEST)
    gain = accuracy - results["parts"]["baseline"]["accuracy"]
    assert found["boost"]["mended"] - found["boost"]["made"] == round(gain * TEST)
    assert len(found["ablation"]) == len(evaluation["groups"])
    named, known = name == "hard", name != "soft"
    assert ("oracle" in found["oracle_gap"]) == named
    assert (rows[0]["gate"] is not None) == named
    confusion = evaluation["gate"]["confusion"]
    assert (confusion is not None) == known
    if known:
        assert np.sum(confusion["count"]) == TEST
    if named:
        right = np.trace(confusion["count"]) / TEST
        assert right == pytest.approx(results["parts"]["gate"]["accuracy"])


def test_what_a_part_is_worth_is_tried_out(copy_of):
    """Two experts, hard routing: without one of them the other answers everything."""
    workdir = copy_of("hard")
    found = _evaluate(workdir, "hard", "expert:sharp", "expert:soft", "oracle", "oracle_best")
    found = found["routings"]
    accuracy = {name: under["accuracy"] for name, under in found.items()}
    lost = [accuracy["hard"] - accuracy[f"expert:{other}"] for other in ("soft", "sharp")]
    assert found["hard"]["ablation"] == pytest.approx(lost)
    for oracle, gap in found["hard"]["oracle_gap"].items():
        assert gap == pytest.approx(accuracy[oracle] - accuracy["hard"])
    assert found["oracle"]["ablation"] is None
