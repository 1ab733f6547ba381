"""What a run left is read back, or refused in one line that names the file."""

import copy
import json
import pathlib

import pytest

from moe.config.run import Config
from moe.config.sections import DataConfig
from moe.errors import UserError
from moe.run_files import StoredRun, read_results, read_run

COMMITTED = sorted((pathlib.Path(__file__).parents[1] / "docs" / "results").glob("*.json"))
RESULTS = json.loads(COMMITTED[0].read_text())
CONFIG = Config(mode="gate", data=DataConfig(dataset="toy"))
RUN = {
    "config": CONFIG.to_dict(),
    "precision": "float32",
    "groups": {"a": ["x", "y"], "b": ["z"]},
    "class_weights": {"x": 2.0},
    "data": {"classes": ["x", "y", "z"], "input_shape": [8, 8, 3], "table": None},
    "initial": {"gate": "runs/a:gate"},
}


def changed(content: dict, place: str, value) -> dict:
    """A copy with the value at `a.b.c` changed; deleted where it is `...`."""
    content = copy.deepcopy(content)
    *path, last = place.split(".")
    inner = content
    for name in path:
        inner = inner[name]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return content


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_the_results_of_every_published_run_are_read(tmp_path, path):
    (tmp_path / "results.json").write_bytes(path.read_bytes())
    assert read_results(tmp_path) == json.loads(path.read_text())


def test_a_run_is_read(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(RUN))
    noted = (RUN[name] for name in ("groups", "class_weights", "data", "initial"))
    assert read_run(tmp_path) == StoredRun(CONFIG, "float32", *noted)


def test_a_run_of_a_version_that_noted_less_down_is_read(tmp_path):
    older = {name: RUN[name] for name in ("config", "precision")}
    (tmp_path / "config.json").write_text(json.dumps(older))
    assert read_run(tmp_path) == StoredRun(CONFIG, "float32", None, None, None, None)


NO_JSON = [b"", b'{"config": {"mo', b"\xff\xfe\x00", b"nothing", b'{"test": NaN}', b"[-Infinity]"]
DAMAGED_RESULTS = [
    ([], r"results is \[\]"),
    (None, "results is None"),
    (changed(RESULTS, "test", ...), "results.test is missing"),
    (changed(RESULTS, "test", None), "results.test is None"),
    (changed(RESULTS, "test.accuracy", "high"), "results.test.accuracy is 'high'"),
    (changed(RESULTS, "seed", 0.5), "results.seed is 0.5"),
    (changed(RESULTS, "parts", {"experts": {"a": 1}}), "results.parts.experts.a is 1"),
    (changed(RESULTS, "routing_metrics.load", ["all"]), r"results.routing_metrics.load\[0\]"),
    (changed(RESULTS, "throughput.examples_per_second", ...), "examples_per_second is missing"),
    (changed(RESULTS, "params.total", "many"), "results.params.total is 'many'"),
]
DAMAGED_RUNS = [
    ([], r"config is \[\]"),
    ({}, "config.config is missing"),
    (changed(RUN, "config", [1]), r"config.config is \[1\]"),
    (changed(RUN, "precision", ...), "config.precision is missing"),
    (changed(RUN, "precision", "float99"), "precision is 'float99'"),
    (changed(RUN, "groups", ["a"]), r"config.groups is \['a'\]"),
    (changed(RUN, "groups.a", "x"), "config.groups.a is 'x'"),
    (changed(RUN, "data.classes", "xyz"), "config.data.classes is 'xyz'"),
    (changed(RUN, "data.input_shape", [8.5]), r"config.data.input_shape\[0\] is 8.5"),
    (changed(RUN, "data.input_shape", [10**12]), r"an example has the shape \[1000000000000\]"),
    (changed(RUN, "data.input_shape", [8, 0, 3]), r"an example has the shape \[8, 0, 3\]"),
    (changed(RUN, "initial", ["gate"]), r"config.initial is \['gate'\]"),
    (changed(RUN, "config.train.init_from", "a"), "init_from is 'a'"),
    (changed(RUN, "config.mode", ["gate"]), "--mode=.*: must be one of"),
    (changed(RUN, "config.data", ...), "'data'"),
    (changed(RUN, "config.data", 3), "'int' object"),
    (changed(RUN, "config.train.seed", "seven"), "seed is 'seven'"),
    (changed(RUN, "config.train.seed", -7), "--seed=-7: must be 0 or more"),
    (changed(RUN, "config.train.batch_size", 2.5), "batch_size is 2.5"),
    (changed(RUN, "config.model.baseline", 1), "baseline is 1"),
    (changed(RUN, "config.data.dataset", None), "dataset is None"),
    (changed(RUN, "config.model.dropout", 0.5), "'dropout'"),
]


def refused(path: pathlib.Path, content: bytes, read, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read(path.parent)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", NO_JSON)
@pytest.mark.parametrize(("name", "read"), [("results", read_results), ("config", read_run)])
def test_what_is_no_json_is_refused(tmp_path, name, read, content):
    refused(tmp_path / f"{name}.json", content, read, "is damaged, no JSON")


@pytest.mark.parametrize(("content", "message"), DAMAGED_RESULTS)
def test_damaged_results_are_refused(tmp_path, content, message):
    refused(tmp_path / "results.json", json.dumps(content).encode(), read_results, message)


@pytest.mark.parametrize(("content", "message"), DAMAGED_RUNS)
def test_a_damaged_configuration_is_refused(tmp_path, content, message):
    refused(tmp_path / "config.json", json.dumps(content).encode(), read_run, message)
