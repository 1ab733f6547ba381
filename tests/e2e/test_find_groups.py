"""`--groups=auto:K` from a baseline that is trained for it, and from one that was there."""

from __future__ import annotations

import json

import numpy as np
import pytest
from toy import CLASSES, toy_config

from moe import find_groups, run
from moe.errors import UserError
from moe.files import alone_in
from moe.find_groups import find_and_train


def read(path):
    return json.loads(path.read_text())


def test_groups_are_found_used_kept_and_reported(toy, tmp_path, monkeypatch, capsys):
    config = toy_config(tmp_path / "run", "separate", groups="auto:2", epochs=1)
    assert find_and_train(config) == 0
    shown = capsys.readouterr().out
    found = read(tmp_path / "run" / "groups.json")
    assert sorted(name for names in found.values() for name in names) == sorted(CLASSES)
    assert list(found) == ["group_0", "group_1"]
    report = read(tmp_path / "run" / "discovery.json")
    assert report["found"] == found
    assert {"command", "versions", "device", "revision"} <= set(report)  # can be published
    assert set(report["agreement"]) == {"adjusted_rand_index", "normalized_mutual_information"}
    assert f"group_0: {', '.join(found['group_0'])}" in shown
    assert "sharp: square, frame" in shown
    assert f"adjusted Rand index {report['agreement']['adjusted_rand_index']:.3f}" in shown
    # Not the baseline's folder: the same command again continues the whole.
    assert f"--workdir={tmp_path / 'run' / 'baseline'}\nevaluate" not in shown
    results = read(tmp_path / "run" / "results.json")
    assert results["groups"] == ["group_0", "group_1"]
    assert set(results["parts"]["experts"]) == {"group_0", "group_1"}

    # Continued: nothing is looked for again.
    monkeypatch.setattr(find_groups, "_discover", None)
    assert find_and_train(config) == 0


def test_a_second_search_in_the_same_folder_is_refused(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(find_groups, "train", lambda *_, **__: pytest.fail("trained"))
    message = f"--workdir={tmp_path}: process .* is training in it"
    with alone_in(tmp_path, ".search.lock"), pytest.raises(UserError, match=message):
        find_and_train(toy_config(tmp_path, "separate", groups="auto:2"))
    assert [path.name for path in tmp_path.iterdir()] == [".search.lock"]


@pytest.mark.slow
def test_an_edited_partition_can_be_used(toy, tmp_path):
    teacher = tmp_path / "teacher"
    assert run.train(toy_config(teacher, "baseline", epochs=1)) == 0
    flags = {"groups": "auto:3", "groups_from": str(teacher), "epochs": 1}
    assert find_and_train(toy_config(tmp_path / "found", **flags)) == 0
    path = tmp_path / "found" / "groups.json"
    groups = read(path)
    assert len(groups) == 3
    first, second, _ = groups.values()
    second.append(first.pop()) if len(first) > 1 else first.append(second.pop())
    groups = {name: names for name, names in groups.items() if names}
    path.write_text(json.dumps(groups))
    edited = toy_config(tmp_path / "edited", groups=str(path), epochs=1)
    assert run.train(edited) == 0
    assert read(tmp_path / "edited" / "results.json")["groups"] == list(groups)
    # The file may go: the run has noted it down.
    path.unlink()
    assert run.train(edited) == 0


@pytest.mark.slow
def test_groups_out_of_next_to_no_confusion_are_warned_of(toy, tmp_path, monkeypatch, capsys):
    teacher = tmp_path / "teacher"
    assert run.train(toy_config(teacher, "baseline", epochs=1)) == 0
    flags = {"groups": "auto:2", "groups_from": str(teacher), "steps": 1}
    assert find_and_train(toy_config(tmp_path / "confused", **flags)) == 0
    assert "nearly arbitrary" not in capsys.readouterr().err
    likeness = np.full((len(CLASSES), len(CLASSES)), 1e-4)
    monkeypatch.setattr(find_groups, "confusion_affinity", lambda *_: likeness)
    assert find_and_train(toy_config(tmp_path / "sure", **flags)) == 0
    assert "nearly arbitrary" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"groups_from": "nowhere"}, r"--groups_from=nowhere: no run there"),
        ({"data_seed": 3}, r"was trained with --data_seed=0, this run has 3"),
        ({"validation_fraction": 0.2}, r"with --validation_fraction=0.1, this run has 0.2"),
        ({"groups": "auto:6"}, r"--groups=auto:6: there are only 5 classes"),
    ],
)
def test_a_baseline_that_cannot_help_is_refused(toy, tmp_path, flags, message):
    teacher = tmp_path / "teacher"
    assert run.train(toy_config(teacher, "baseline", epochs=1)) == 0
    given = {"groups": "auto:2", "groups_from": str(teacher)} | flags
    with pytest.raises(UserError, match=message):
        find_and_train(toy_config(tmp_path / "run", **given))
    assert not (tmp_path / "run").exists()
