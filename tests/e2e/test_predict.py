"""`eval.py --predict`: files in, a table of answers out."""

from __future__ import annotations

import csv
import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from toy import CLASSES, draw, toy_source, untrained_run

from moe.config.tools import EvalConfig
from moe.data import registry
from moe.data.source import Examples
from moe.errors import UserError
from moe.evaluate.run import evaluate
from moe.evaluate.use import use

IMAGES = draw(25, seed=1)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run, and beside it the images of its test split as files."""
    folder = tmp_path_factory.mktemp("predict")
    source = dataclasses.replace(toy_source(), test=lambda: IMAGES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._GENERATED, "toy", lambda: source)
        untrained_run(folder / "run", groups="none:3", routing="hard")
        names = ("hard", "soft", "uniform", "baseline", "expert:expert_1")
        evaluate(EvalConfig(workdir=str(folder / "run"), routing=names, report=False))
    for n, image in enumerate(IMAGES.features):
        (folder / f"{n:02}.png").write_bytes(tf.io.encode_png(image).numpy())
    return folder / "run"


def predicted(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("routing", [None, "soft", "uniform", "baseline", "expert:expert_1"])
def test_files_are_answered_like_the_test_split(workdir, routing, tmp_path, monkeypatch):
    if routing in (None, "soft"):
        # Not every expert on every row: the mixture is run as it is served.
        monkeypatch.delattr("moe.evaluate.use.predict_dense")
    flags = {"routing": (routing,) if routing else (), "batch_size": 10}
    target = tmp_path / "new" / "answers.csv"
    flags |= {"predict": str(workdir.parent / "*.png"), "predict_to": str(target)}
    assert use(EvalConfig(workdir=str(workdir), **flags)) == 0
    name = (routing or "hard").replace(":", "-")
    with np.load(workdir / f"predictions-{name}.npz") as expected:
        for n, row in enumerate(predicted(target)):
            answer, expert = expected["answer"][n], expected["expert"][n]
            assert row["file"] == str(workdir.parent / f"{n:02}.png")
            assert row["answer"] == CLASSES[answer]
            probability = expected["probabilities"][n, answer]
            assert float(row["probability"]) == pytest.approx(probability, abs=1e-5)
            if expert < 0:
                assert row["expert"] == row["gate_probability"] == ""
                continue
            assert row["expert"] == f"expert_{expert}"
            gate = expected["gate_probabilities"][n, expert]
            assert float(row["gate_probability"]) == pytest.approx(gate, abs=1e-5)
        assert n == len(IMAGES.features) - 1
    assert not (workdir / "predicted.csv").exists()


def test_files_that_are_no_images_are_skipped_where_asked_for(workdir, tmp_path, capsys):
    (tmp_path / "a.png").write_bytes((workdir.parent / "00.png").read_bytes())
    (tmp_path / "b.png").write_text("no image")
    flags = {"workdir": str(workdir), "predict": str(tmp_path / "*.png")}
    flags["predict_to"] = str(tmp_path / "answers.csv")
    assert use(EvalConfig(**flags, skip_unreadable=True)) == 0
    assert [row["file"] for row in predicted(tmp_path / "answers.csv")] == [str(tmp_path / "a.png")]
    assert f"skipped, no images: {tmp_path / 'b.png'}." in capsys.readouterr().err


def test_the_terminal_shows_the_first_twenty(workdir, capsys):
    use(EvalConfig(workdir=str(workdir), predict=str(workdir.parent / "*.png")))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "joint on toy, hard routing, float32: 25 examples"
    assert lines[2].split() == ["file", "answer", "probability", "expert", "gate", "probability"]
    assert sum(".png" in line for line in lines) == 20
    assert "and 5 more" in lines
    assert lines[-1] == f"written: {workdir / 'predicted.csv'}"
    assert len(predicted(workdir / "predicted.csv")) == 25
    (workdir / "predicted.csv").unlink()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"predict": "nowhere/*.png"}, r"--predict=nowhere/\*.png: no file matches"),
        ({"predict": __file__}, r"test_predict.py: is no image that can be read"),
        ({"predict": __file__, "workdir": "nowhere"}, r"--workdir=nowhere: no run there"),
        ({"predict": "x", "routing": ("expert:9",)}, r"--routing=expert:9: the experts are"),
        ({"predict": "x", "gate_threshold": 0.5}, r"--gate_threshold=0.5: is for --routing=soft"),
        ({"export": True, "top_k": 2}, r"--top_k=2: is for --routing=topk"),
    ],
)
def test_what_cannot_be_done_is_one_line(workdir, flags, message):
    before = sorted(workdir.iterdir())
    with pytest.raises(UserError, match=message) as caught:
        use(EvalConfig(**({"workdir": str(workdir)} | flags)))
    assert "\n" not in str(caught.value)
    assert sorted(workdir.iterdir()) == before


def test_a_table_of_rows(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    examples = Examples(
        rng.normal(5, 2, (60, 3)).astype(np.float32), np.arange(60, dtype=np.int32) % 5
    )
    source = dataclasses.replace(
        toy_source(), train=lambda: examples, test=lambda: examples, partition=None
    )
    monkeypatch.setitem(registry._GENERATED, "toy", lambda: source)
    flags = {"groups": "none:2", "baseline": False, "augment": "none"}
    workdir = untrained_run(tmp_path / "run", **flags)
    evaluate(EvalConfig(workdir=str(workdir), report=False))
    table = tmp_path / "rows.csv"
    rows = [",".join(map(repr, row)) for row in examples.features[:4].tolist()]
    table.write_text("\n".join(["width,height,age", *rows]))
    use(EvalConfig(workdir=str(workdir), predict=str(table)))
    found = predicted(workdir / "predicted.csv")
    assert [row["file"] for row in found] == [f"{table}:{line}" for line in (2, 3, 4, 5)]
    with np.load(workdir / "predictions-soft.npz") as expected:
        assert [row["answer"] for row in found] == [CLASSES[a] for a in expected["answer"][:4]]
    table.write_text("1,2\n")
    with pytest.raises(UserError, match=r"rows.csv, line 1: has 2 columns, the run's rows have 3"):
        use(EvalConfig(workdir=str(workdir), predict=str(table)))


def test_raw_rows_of_a_csv_file(tmp_path):
    path = tmp_path / "zoo.csv"
    rng = np.random.default_rng(0)
    rows = [f"{rng.normal(n % 2, 1):.3f},{'ab'[n % 2]},{'AB'[n % 2]}" for n in range(60)]
    path.write_text("\n".join(["size,kind,label", *rows]))
    flags = {"dataset": f"csv:{path}?label=label", "groups": "none:2", "augment": "none"}
    workdir = untrained_run(tmp_path / "run", **flags)
    evaluate(EvalConfig(workdir=str(workdir), report=False))
    path.unlink()  # the run knows what it learned of the columns
    # The test split and then some; another order, another column.
    raw = tmp_path / "raw.csv"
    raw.write_text("\n".join(["kind,id,size", *(f"{r[1]},0,{r[0]}" for r in csv.reader(rows))]))
    use(EvalConfig(workdir=str(workdir), predict=str(raw)))
    found = [float(row["probability"]) for row in predicted(workdir / "predicted.csv")]
    with np.load(workdir / "predictions-soft.npz") as expected:
        answered = expected["probabilities"].max(axis=1)
    assert len(found) == 60
    assert all(np.abs(np.array(found) - one).min() < 1e-5 for one in answered)
