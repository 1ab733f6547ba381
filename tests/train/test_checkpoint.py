from __future__ import annotations

import errno
import json
import os
import pathlib
from contextlib import nullcontext
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from moe.errors import UserError
from moe.train.checkpoint import CheckpointStore, _manifest_digest


def _variables(value: float) -> dict[str, list[tf.Variable]]:
    return {
        "gate": [tf.Variable([value, value]), tf.Variable(value)],
        "expert_0": [tf.Variable([[value]])],
        "loss_scale": [],
    }


@pytest.fixture
def store(tmp_path):
    store = CheckpointStore(tmp_path, keep=2)
    for number in (1, 2, 3):
        store.save(number, _variables(number), {"step": number})
    return store


def test_the_newest_comes_back_with_its_progress(store):
    saved = store.newest()
    assert (saved.number, saved.progress) == (3, {"step": 3})
    variables = _variables(0)
    store.restore(saved, variables)
    np.testing.assert_array_equal(variables["gate"][0], [3, 3])
    assert float(variables["expert_0"][0][0, 0]) == 3


def test_some_of_the_variables_are_read_in_their_order(store):
    values = store.read(store.newest(), "gate")
    assert [value.tolist() for value in values] == [[3, 3], 3]
    assert store.read(store.newest(), "expert") == []


def test_only_the_newest_are_kept(store, tmp_path):
    assert sorted(path.name for path in tmp_path.glob("*.json")) == ["ckpt-2.json", "ckpt-3.json"]
    assert not list(tmp_path.glob("ckpt-1.*"))
    assert "ckpt-3" in (tmp_path / "checkpoint").read_text()


def test_an_empty_folder_has_none(tmp_path):
    assert CheckpointStore(tmp_path / "nothing").newest() is None


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("suffix", ["data-00000-of-00001", "index", "json"])
@pytest.mark.parametrize(
    "damage", [_flip, lambda path: path.write_bytes(b""), lambda p: p.unlink()]
)
def test_a_damaged_one_is_skipped_with_a_warning(store, tmp_path, capsys, suffix, damage):
    damage(tmp_path / f"ckpt-3.{suffix}")
    saved = store.newest()
    if saved.number == 3:  # the flipped bit fell on white space of the manifest
        assert suffix == "json"
        return
    assert saved.number == 2
    gone = suffix == "json" and not (tmp_path / "ckpt-3.json").exists()
    assert gone or "ckpt-3" in capsys.readouterr().err


@pytest.mark.parametrize("progress", [{"step": 1}, {}, [1]])
def test_a_position_that_was_changed_is_damage(store, tmp_path, progress):
    manifest = json.loads((tmp_path / "ckpt-3.json").read_text())
    manifest["progress"] = progress
    (tmp_path / "ckpt-3.json").write_text(json.dumps(manifest))
    assert store.newest().number == 2


def test_if_all_are_damaged_that_is_an_error(store, tmp_path):
    for number in (2, 3):
        _flip(tmp_path / f"ckpt-{number}.data-00000-of-00001")
    with pytest.raises(UserError, match="every checkpoint is damaged"):
        store.newest()


def test_the_state_file_is_never_believed(store, tmp_path):
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "/etc/passwd"\n')
    assert store.newest().number == 3
    (tmp_path / "checkpoint").write_bytes(b"\x00garbage")
    assert store.newest().number == 3


@pytest.mark.parametrize("name", ["../ckpt-3.index", "/etc/passwd", "ckpt-2.index"])
def test_a_manifest_cannot_point_elsewhere(store, tmp_path, name):
    manifest = json.loads((tmp_path / "ckpt-3.json").read_text())
    manifest["files"][name] = "0"
    manifest["digest"] = _manifest_digest(manifest)  # a forger can count, too
    (tmp_path / "ckpt-3.json").write_text(json.dumps(manifest))
    assert store.newest().number == 2


def test_a_link_is_no_checkpoint(store, tmp_path):
    data = tmp_path / "ckpt-3.index"
    data.rename(tmp_path / "elsewhere")
    data.symlink_to(tmp_path / "elsewhere")
    assert store.newest().number == 2


@pytest.mark.parametrize("content", ["{}", "[1]", "null", "[" * 10_000, " " * 2**21])
def test_a_manifest_that_is_none(store, tmp_path, content):
    (tmp_path / "ckpt-3.json").write_text(content)
    assert store.newest().number == 2


def test_a_file_is_no_folder_of_checkpoints(tmp_path):
    (tmp_path / "checkpoints").write_text("")
    store = CheckpointStore(tmp_path / "checkpoints")
    for use in (store.newest, store.sweep, lambda: store.save(1, _variables(1), {})):
        with pytest.raises(UserError, match="checkpoints: is a file"):
            use()


def test_a_manifest_is_no_link(store, tmp_path):
    (tmp_path / "ckpt-3.json").rename(tmp_path / "elsewhere")
    (tmp_path / "ckpt-3.json").symlink_to(tmp_path / "elsewhere")
    assert store.newest().number == 2


def test_a_file_that_the_manifest_does_not_name_is_not_read(store, tmp_path):
    (tmp_path / "ckpt-3.data-00001-of-00002").touch()
    assert store.newest().number == 2


def test_a_folder_that_is_a_link_is_not_looked_into(store, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    linked = CheckpointStore(tmp_path / "link")
    for use in (linked.newest, linked.sweep, lambda: linked.save(4, _variables(4), {})):
        with pytest.raises(UserError, match="is a link, and checkpoints outside"):
            use()
    assert store.newest().number == 3


def test_checkpoints_that_are_gone_are_not_forgotten(store, tmp_path):
    for path in tmp_path.glob("ckpt-*"):
        path.unlink()
    with pytest.raises(UserError, match="every checkpoint is gone"):
        store.newest()


@pytest.mark.parametrize("keep", [1, 2])
def test_a_damaged_one_does_not_take_the_place_of_a_good_one(tmp_path, keep):
    store = CheckpointStore(tmp_path, keep)
    for number in (10, 20):
        CheckpointStore(tmp_path, keep=2).save(number, _variables(number), {})
    _flip(tmp_path / "ckpt-20.index")
    assert store.newest().number == 10
    store.save(15, _variables(15), {})  # what comes next after the step gone back to
    assert store.newest().number == 15
    kept = {path.stem for path in tmp_path.glob("*.json")}
    assert kept == ({"ckpt-15"} if keep == 1 else {"ckpt-10", "ckpt-15"})


def test_damaged_ones_are_not_counted_among_those_to_keep(tmp_path):
    store = CheckpointStore(tmp_path, keep=2)
    for number in (10, 20):
        store.save(number, _variables(number), {})
    _flip(tmp_path / "ckpt-20.index")
    assert store.newest().number == 10
    store.save(25, _variables(25), {})
    _flip(tmp_path / "ckpt-25.index")
    assert CheckpointStore(tmp_path).newest().number == 10


def test_an_old_one_that_cannot_be_removed_stops_nothing(store, tmp_path, monkeypatch, capsys):
    real = pathlib.Path.unlink

    def refuse(path, **options):
        if path.name.startswith("ckpt-"):
            raise PermissionError(1, "Operation not permitted", str(path))
        real(path, **options)

    monkeypatch.setattr(pathlib.Path, "unlink", refuse)
    store.save(4, _variables(4), {})
    monkeypatch.undo()
    assert "cannot be removed (Operation not permitted)" in capsys.readouterr().err
    assert store.newest().number == 4


def test_what_no_save_has_written_is_left_alone(store, tmp_path):
    (tmp_path / "ckpt-backup").mkdir()
    names = ("ckpt-backup/file", "ckpt-notes.txt", "ckpt-3.index.bak", "ckpt-3.json~")
    for name in names:
        (tmp_path / name).touch()
    store.sweep()
    assert store.newest().number == 3
    for number in (4, 5):
        store.save(number, _variables(number), {})
    assert all((tmp_path / name).exists() for name in names)


def test_a_file_in_the_way_of_a_save_is_removed(store, tmp_path):
    (tmp_path / "incomplete").touch()
    store.save(4, _variables(4), {})
    assert store.newest().number == 4


def test_what_a_killed_save_leaves_is_swept_away(store, tmp_path):
    (tmp_path / "incomplete").mkdir()
    (tmp_path / "incomplete" / "ckpt-4.index").touch()
    (tmp_path / "checkpoint.tmp").touch()
    (tmp_path / "ckpt-4.index").touch()  # moved into place, its manifest was not
    store.sweep()
    assert store.newest().number == 3
    names = {path.name.split(".")[0] for path in tmp_path.iterdir()}
    assert names == {"ckpt-2", "ckpt-3", "checkpoint"}


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v["gate"].append(tf.Variable(0.0)),  # not in the file
        lambda v: v["gate"].pop(),  # in the file, not asked for
        lambda v: v.pop("expert_0"),
        lambda v: v.update(gate=[tf.Variable([0.0] * 3), v["gate"][1]]),
    ],
)
def test_it_must_fit_the_model_exactly(store, change):
    variables = _variables(0)
    change(variables)
    with pytest.raises(UserError, match="does not hold exactly the variables"):
        store.restore(store.newest(), variables)


def test_a_save_that_fails_keeps_the_one_before(store, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    message = r"checkpoint 4 cannot be written \(.*No space left.*\); it takes 16 bytes and more, "
    with pytest.raises(UserError, match=message + r"[\d,]+ are free; ckpt-3 is still good"):
        store.save(4, _variables(4), {})
    monkeypatch.undo()
    assert not (tmp_path / "incomplete").exists()
    assert store.newest().number == 3


def test_a_damaged_one_is_not_called_good(store, tmp_path, monkeypatch):
    _flip(tmp_path / "ckpt-3.index")
    assert store.newest().number == 2
    monkeypatch.setattr("os.replace", mock.Mock(side_effect=OSError(28, "No space left")))
    with pytest.raises(UserError, match="; ckpt-2 is still good"):
        store.save(4, _variables(4), {})


# The files of TensorFlow, the manifest, the state file.
@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_a_save_that_fails_at_any_of_its_moves_costs_nothing(store, tmp_path, monkeypatch, call):
    real, calls = os.replace, []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == call:
            raise OSError(28, "No space left on device")
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", failing)
        with pytest.raises(UserError, match="checkpoint 4 cannot be written"):
            store.save(4, _variables(4), {"step": 4})
    assert len(calls) == call
    # Once the manifest is there it counts, whatever becomes of the state file.
    last = 3 if call < 4 else 4
    for there in (store, CheckpointStore(tmp_path, keep=2)):
        assert (there.newest().number, there.newest().progress) == (last, {"step": last})
    store.save(5, _variables(5), {"step": 5})
    assert store.newest().number == 5
    names = {path.name.split(".")[0] for path in tmp_path.iterdir()}
    assert names == {f"ckpt-{last}", "ckpt-5", "checkpoint"}
    variables = _variables(0)
    store.restore(store.newest(), variables)
    np.testing.assert_array_equal(variables["gate"][0], [5, 5])


def test_the_disk_has_the_files_before_the_manifest_names_them(store, tmp_path, monkeypatch):
    done, replace = [], os.replace

    def move(old, new):
        done.append(("move", pathlib.Path(new).name))
        replace(old, new)

    monkeypatch.setattr(os, "replace", move)
    monkeypatch.setattr("moe.train.checkpoint._sync", lambda p: done.append(("sync", p.name)))
    store.save(4, _variables(4), {})
    manifest, folder = "ckpt-4.json", ("sync", tmp_path.name)
    parts = ["ckpt-4.data-00000-of-00001", "ckpt-4.index"]
    assert done == [
        *(("sync", name) for name in (*parts, manifest)),
        *(("move", name) for name in parts),
        *(folder, ("move", manifest), folder),
        ("move", "checkpoint"),
    ]


@pytest.mark.parametrize(("number", "is_error"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_a_disk_that_does_not_take_it_is_an_error(store, monkeypatch, number, is_error):
    def refuse(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    expected = pytest.raises(UserError, match="cannot be written") if is_error else nullcontext()
    with expected:
        store.save(4, _variables(4), {})
    assert store.newest().number == (3 if is_error else 4)
