"""The export answers as `eval.py` does, in a process that knows TensorFlow and nothing of ours."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import sklearn.datasets
import tensorflow as tf
from toy import CLASSES, draw, toy_config, toy_source, untrained_run

from moe import run
from moe.config.tools import EvalConfig
from moe.data import registry
from moe.errors import UserError
from moe.evaluate.run import evaluate
from moe.evaluate.use import use
from moe.models.routers import make_router
from moe.serving import export_run, write_export
from moe.trained import open_trained

RUNS = {
    "hard": {"routing": "hard", "expert_backbone": "pooled", "precision": "mixed_bfloat16"},
    "soft": {"groups": "none:3"},
    "group": {"routing": "hard", "expert_head": "group", "baseline": False},
    "noisy": {"routing": "noisy_topk", "top_k": 2, "groups": "none:3"},
    "choosing": {"routing": "expert_choice"},
    "balanced": {"routing": "hard", "groups": "none:3", "balance_bias": 0.1},
}
SIZES = (0, 1, 7, 512)
MANY = draw(512, seed=2)

# What somebody has who serves it: reads examples, writes one file a batch size and column.
SERVE = """
import sys
import tensorflow as tf
features = tf.io.parse_tensor(tf.io.read_file(sys.argv[1]), tf.uint8)
for folder in sys.argv[3:]:
    served = tf.saved_model.load(folder)
    columns = served.signatures["names"]()
    for size in map(int, sys.argv[2].split(",")):
        found = served.signatures["serving_default"](features=features[:size])
        columns |= {f"{name}-{size}": values for name, values in found.items()}
    for name, values in columns.items():
        tf.io.write_file(f"{folder}/../{name}", tf.io.serialize_tensor(values))
assert not [name for name in sys.modules if name.partition(".")[0] in ("moe", "flags")]
"""
DTYPES = {"probabilities": tf.float32, "gate_probabilities": tf.float32}


@pytest.fixture
def many(monkeypatch):
    """The toy set with a test split of 512."""
    source = dataclasses.replace(toy_source(), test=lambda: MANY)
    monkeypatch.setitem(registry._GENERATED, "toy", lambda: source)


@pytest.mark.parametrize(
    "names",
    [
        ("hard", "balanced"),
        pytest.param(("soft", "group", "noisy", "choosing"), marks=pytest.mark.slow),
    ],
)
def test_an_export_answers_like_an_evaluation(many, tmp_path, names):
    runs = {name: RUNS[name] for name in names}
    folders = []
    for name, flags in runs.items():
        workdir = untrained_run(tmp_path / name, **flags)
        folders.append(export_run(workdir))
        assert evaluate(EvalConfig(workdir=str(workdir), precision="float32", report=False)) == 0
    examples = tmp_path / "examples"
    examples.write_bytes(tf.io.serialize_tensor(MANY.features).numpy())
    command = [sys.executable, "-I", "-c", SERVE, examples, ",".join(map(str, SIZES)), *folders]
    served = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert served.returncode == 0, served.stderr

    def read(name, column, dtype=tf.int32):
        return tf.io.parse_tensor((tmp_path / name / column).read_bytes(), dtype).numpy()

    for name, flags in runs.items():
        routing = flags.get("routing", "soft")
        assert [c.decode() for c in read(name, "classes", tf.string)] == list(CLASSES)
        experts = ["expert_0", "expert_1", "expert_2"] if "groups" in flags else ["sharp", "soft"]
        assert [e.decode() for e in read(name, "experts", tf.string)] == experts
        classes = read(name, "classes-7", tf.string)
        np.testing.assert_array_equal(classes.astype(str), [CLASSES] * 7)
        with np.load(tmp_path / name / f"predictions-{routing}.npz") as expected:
            # Each of them answers somewhere: nothing was settled when the graph was traced.
            assert set(expected["expert"]) == set(range(len(experts)))
            surest = expected["gate_probabilities"].argmax(axis=1)
            assert (expected["expert"] != surest).any() == ("balance_bias" in flags)
            for size in SIZES:
                for column, dtype in DTYPES.items():
                    found = read(name, f"{column}-{size}", dtype)
                    np.testing.assert_allclose(found, expected[column][:size], atol=1e-5)
                for column in ("answer", "expert"):
                    found = read(name, f"{column}-{size}")
                    np.testing.assert_array_equal(found, expected[column][:size])


# For each export a request, which holds what stands in each column; answers go beside it.
SERVE_ROWS = """
import json
import sys
import tensorflow as tf
for folder in sys.argv[1:]:
    with open(folder + "/../request.json") as file:
        columns = json.load(file)
    serve = tf.saved_model.load(folder).signatures["serving_default"]
    specs = serve.structured_input_signature[1]
    found = serve(**{name: tf.constant(columns[name], specs[name].dtype) for name in specs})
    found = {name: values.numpy() for name, values in found.items()}
    found["classes"] = found["classes"].astype(str)
    with open(folder + "/../answers.json", "w") as file:
        json.dump({name: values.tolist() for name, values in found.items()}, file)
assert not [name for name in sys.modules if name.partition(".")[0] in ("moe", "flags")]
"""


def write_zoo(path):
    """A table with words, holes, names that no signature takes, and large numbers."""
    rng = np.random.default_rng(0)
    lines = ["Size (cm),kind,Größe,self,time,label"]
    for n in range(90):
        size = "" if n % 7 == 0 else f"{rng.normal(n % 3, 1):.3f}"
        kind = "?" if n % 11 == 0 else ("ape", "bear", "élan")[n % 3]
        time = 2**20 + 0.125 * n
        lines.append(f"{size},{kind},{rng.normal():.4f},{n % 5},{time},{'AB'[n % 2]}")
    path.write_text("\n".join(lines), encoding="utf-8")


@pytest.mark.slow
def test_tables_go_in_as_they_are(tmp_path):
    nan, late = float("nan"), 2.0**20
    zoo = {
        "Size__cm_": [1.5, nan, -0.25, 2.0, nan, 0.5],
        "kind": ["bear", "", " élan ", "yeti", "NA", "ape"],
        "Gr__e": [0.5, 1.0, -1.0, nan, 0.0, 2.0],
        "self_2": [0.0, 4.0, nan, 1.0, 2.0, 3.0],
        "time": [late, late + 0.125, nan, late + 8, late + 4, late + 1],
    }
    # In Python a cell is what stands in the file.
    zoo_rows = [[None if x != x else x for x in row] for row in zip(*zoo.values(), strict=True)]
    wine_rows = sklearn.datasets.load_wine().data[::9].astype(np.float32)
    path = tmp_path / "zoo.csv"
    write_zoo(path)
    folders = []
    for name, dataset, request in (
        ("zoo", f"csv:{path}?label=label", zoo),
        ("wine", "wine", {"features": wine_rows.tolist()}),
    ):
        flags = {"dataset": dataset, "routing": "hard", "groups": "none:3", "augment": "none"}
        folders.append(export_run(untrained_run(tmp_path / name, **flags)))
        (tmp_path / name / "request.json").write_text(json.dumps(request))
    path.unlink()  # what was learned of it is in the graph
    command = [sys.executable, "-I", "-c", SERVE_ROWS, *folders]
    served = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert served.returncode == 0, served.stderr
    for name in ("zoo", "wine"):
        found = json.loads((tmp_path / name / "answers.json").read_text())
        trained = open_trained(tmp_path / name, "float32")
        features = wine_rows if name == "wine" else trained.table.apply(zoo_rows)
        output = trained.mixture.forward(features, make_router("hard").evaluate)
        assert len(set(output.routing.expert_index.numpy().ravel())) > 1
        for column, expected in (
            ("probabilities", output.log_probs),
            ("gate_probabilities", output.gate_log_probs),
        ):
            np.testing.assert_allclose(found[column], np.exp(expected), atol=1e-5)
        np.testing.assert_array_equal(found["answer"], output.answer)
        np.testing.assert_array_equal(found["expert"], output.routing.expert_index[:, 0])
        assert found["classes"] == [list(trained.classes)] * len(features)
    table = tf.saved_model.load(str(folders[0]))
    names = table.names()
    columns = [name.decode() for name in names["columns"].numpy()]
    assert columns == ["Size (cm)", "kind", "Größe", "self", "time"]
    assert [name.decode() for name in names["inputs"].numpy()] == list(zoo)
    nobody = table.serve({name: tf.constant(cells)[:0] for name, cells in zoo.items()})
    assert nobody["classes"].shape == (0, 2)


def test_a_hard_export_runs_the_chosen_expert_only(toy, tmp_path):
    # Its experts fail where they get no row, or all of a batch.
    workdir = untrained_run(tmp_path, routing="hard", expert_backbone="e2e.my_networks:jealous")
    images = MANY.features[:20]
    hard = tf.saved_model.load(str(export_run(workdir)))
    assert set(hard.serve(images)["expert"].numpy()) == {0, 1}
    for image in images[:4]:
        hard.serve(image[np.newaxis])
    trained = open_trained(workdir, "float32")
    folder = write_export(trained, make_router("soft").evaluate, tmp_path / "soft")
    soft = tf.saved_model.load(str(folder))
    with pytest.raises(tf.errors.InvalidArgumentError, match="all of the rows"):
        soft.serve(images)
    # No example at all is no reason to run a network on none.
    assert soft.serve(images[:0])["probabilities"].shape == (0, len(CLASSES))


def test_an_export_replaces_the_one_before(toy, tmp_path, monkeypatch, capsys):
    workdir = untrained_run(tmp_path, groups="none:3", routing="hard")
    before = {path.name for path in workdir.iterdir()}
    export_run(workdir)
    (workdir / "export" / "stale").touch()
    # Without the data set: nothing of it is needed.
    monkeypatch.delitem(registry._GENERATED, "toy")
    options = {"routing": ("topk",), "top_k": 3}
    assert use(EvalConfig(workdir=str(workdir), export=True, **options)) == 0
    assert capsys.readouterr().out == f"exported: {workdir / 'export'}\n"
    assert {path.name for path in workdir.iterdir()} == before | {"export"}
    assert not (workdir / "export" / "stale").exists()
    images = MANY.features[:9]
    served = tf.saved_model.load(str(workdir / "export"))
    found = served.serve(images)
    expected = open_trained(workdir, "float32").mixture(images)
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5)


def test_a_baseline_is_exported_alone(toy, tmp_path):
    workdir = untrained_run(tmp_path, "baseline")
    served = tf.saved_model.load(str(export_run(workdir)))
    images = MANY.features[:5]
    found = served.serve(images)
    assert set(found) == {"probabilities", "answer", "classes"}
    mixture = open_trained(workdir, "float32").mixture
    expected = tf.nn.softmax(mixture.baseline(mixture.standardize(images)))
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-6)
    np.testing.assert_array_equal(found["answer"], np.argmax(expected, axis=1))


def test_a_trunk_and_both_views_of_an_image_are_exported(toy, tmp_path):
    # Layers for images: only they have a left and a right.
    networks = dict.fromkeys(("gate_backbone", "expert_backbone", "baseline_backbone"), "tiny")
    flags = {"trunk": 1, "identity_init": True, "tta": "flip", "routing": "hard", **networks}
    workdir = untrained_run(tmp_path, **flags)
    served = tf.saved_model.load(str(export_run(workdir)))
    images = MANY.features[:5]
    found, mirrored = (served.serve(x)["probabilities"] for x in (images, images[:, :, ::-1]))
    np.testing.assert_allclose(found, mirrored, atol=1e-5)
    once = open_trained(workdir, tta="none").mixture
    way = make_router("hard").evaluate
    assert np.abs(np.exp(once.forward(images, way).log_probs) - found).max() > 1e-4
    baseline = untrained_run(tmp_path / "alone", "baseline", **flags)
    served = tf.saved_model.load(str(export_run(baseline)))
    found, mirrored = (served.serve(x)["probabilities"] for x in (images, images[:, :, ::-1]))
    np.testing.assert_allclose(found, mirrored, atol=1e-5)


def test_no_mirror_image_is_asked_where_it_is_of_another_class(toy, tmp_path):
    flags = dict.fromkeys(("gate_backbone", "expert_backbone", "baseline_backbone"), "tiny")
    workdir = untrained_run(tmp_path, dataset="rotate:toy", augment="none", **flags)
    with pytest.raises(UserError, match="--tta=flip: mirrors images, and a mirrored one of rotate"):
        open_trained(workdir, tta="flip")
    assert not open_trained(workdir, tta="none").mixture.mirrors


def test_a_run_of_an_older_version_is_described_by_its_data_set(toy, tmp_path):
    workdir = untrained_run(tmp_path, expert_head="group")
    newer = open_trained(workdir)
    stored = json.loads((workdir / "config.json").read_text())
    del stored["data"]
    (workdir / "config.json").write_text(json.dumps(stored))
    older = open_trained(workdir)
    assert older._replace(mixture=None) == newer._replace(mixture=None)
    images = MANY.features[:3]
    np.testing.assert_array_equal(older.mixture(images), newer.mixture(images))


def test_a_network_that_does_not_answer_is_not_exported(toy, tmp_path):
    workdir = untrained_run(tmp_path, "gate")
    with pytest.raises(UserError, match="trained gate only, and none of them answers"):
        export_run(workdir)
    assert not (workdir / "export").exists()


def test_training_exports_at_its_end_and_when_asked_later(toy, tmp_path, monkeypatch):
    exported = []
    monkeypatch.setattr(run, "export_run", exported.append)

    def train(**flags):
        assert run.train(toy_config(tmp_path, "baseline", baseline_backbone="mlp-4", **flags)) == 0
        return len(exported)

    assert train(epochs=1) == 0
    assert train(epochs=1, export=True) == 1  # the run is finished; nothing else is left to do
    (tmp_path / "export").mkdir()
    (tmp_path / "predicted.csv").touch()
    assert train(epochs=2, export=True) == 2
    # What a shorter run had to say is gone.
    assert not (tmp_path / "export").exists()
    assert not (tmp_path / "predicted.csv").exists()
    assert exported == [tmp_path] * 2
