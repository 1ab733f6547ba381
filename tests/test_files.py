"""Files are whole or still the ones before; what the disk does not take is one clear line."""

import errno
import genericpath
import os
import pathlib
import subprocess
import sys

import pytest

from moe.errors import UserError
from moe.files import alone_in, is_there, read_json, sweep, whole_folder, write_json, write_whole


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_with_the_folders_above_it(tmp_path):
    write_whole(tmp_path / "a" / "b.bin", b"content")
    assert (tmp_path / "a" / "b.bin").read_bytes() == b"content"
    assert names(tmp_path / "a") == ["b.bin"]


def test_what_is_written_is_read_back(tmp_path):
    content = {"name": "Größe", "numbers": [1, 0.5, None]}
    write_json(tmp_path / "a.json", content)
    assert read_json(tmp_path / "a.json") == content


def test_a_full_disk_leaves_the_file_before_and_nothing_else(tmp_path, monkeypatch):
    write_whole(tmp_path / "a.bin", b"before")

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match=r"a\.bin: cannot be written \(No space left on device\)"):
        write_whole(tmp_path / "a.bin", b"after")
    assert (tmp_path / "a.bin").read_bytes() == b"before"
    assert names(tmp_path) == ["a.bin"]


def test_a_place_that_takes_no_file_is_named(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "a.json", tmp_path / "folder"):
        with pytest.raises(UserError, match=f"{path}: cannot be written"):
            write_json(path, {})
    assert names(tmp_path) == ["file", "folder"]


def test_what_was_killed_is_swept_away_and_what_it_replaced_comes_back(tmp_path):
    for name in (".a.json.tmp", "a.json", ".hidden", "b.tmp"):
        (tmp_path / name).touch()
    for name in (".export.tmp", ".export.old", ".figures.old", "figures"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    sweep(tmp_path)
    assert names(tmp_path) == [".hidden", "a.json", "b.tmp", "export", "figures"]
    assert (tmp_path / "export" / "file").read_text() == ".export.old"
    assert (tmp_path / "figures" / "file").read_text() == "figures"


def test_a_sweep_leaves_what_hides_nothing(tmp_path):
    for name in ("..old", "..tmp", ".old", ".tmp"):
        (tmp_path / name).touch()
    sweep(tmp_path)
    assert names(tmp_path) == ["..old", "..tmp", ".old", ".tmp"]


def test_a_sweep_does_not_follow_links(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").touch()
    (tmp_path / ".a.tmp").symlink_to(tmp_path / "elsewhere")
    sweep(tmp_path)
    assert names(tmp_path) == ["elsewhere"]
    assert names(tmp_path / "elsewhere") == ["file"]


def test_one_at_a_time_works_in_a_folder(tmp_path):
    with alone_in(tmp_path):
        message = f"--workdir={tmp_path}: process {os.getpid()} is training in it"
        with pytest.raises(UserError, match=message), alone_in(tmp_path):
            raise AssertionError("let in")
    with alone_in(tmp_path):
        pass


def test_a_lock_ends_with_the_process_that_has_it(tmp_path):
    code = f"""
import os, pathlib
from moe.files import alone_in
held = alone_in(pathlib.Path({str(tmp_path)!r}))
held.__enter__()
print("locked", flush=True)
os.read(0, 1)
"""
    holder = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=pathlib.Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout.readline() == b"locked\n"
    with pytest.raises(UserError, match=f"process {holder.pid} is training"), alone_in(tmp_path):
        raise AssertionError("let in")
    holder.kill()
    holder.communicate()
    with alone_in(tmp_path):
        pass


def test_a_lock_is_no_link(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match="is not writable"), alone_in(tmp_path):
        raise AssertionError("let in")
    assert (tmp_path / "precious").read_text() == "precious"


def test_what_may_not_be_looked_at_is_not_there(monkeypatch, tmp_path):
    def refuse(*args, **kwargs):
        raise PermissionError("no")

    path = tmp_path / "secret"
    path.touch()
    assert is_there(path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", refuse)
        # Some versions of Python ask in another way, and then the file is there.
        patch.setattr(os.path, "exists", genericpath.exists)
        assert not is_there(path)


def fill(path, content):
    with whole_folder(path) as aside:
        assert not list(aside.iterdir())
        (aside / "inner").mkdir()
        (aside / "inner" / content).touch()


def test_a_folder_takes_the_place_of_the_one_before(tmp_path):
    for content in ("first", "second"):
        fill(tmp_path / "new" / "folder", content)
        assert names(tmp_path / "new") == ["folder"]
        assert names(tmp_path / "new" / "folder" / "inner") == [content]


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_a_folder_that_is_not_finished_leaves_the_one_before(tmp_path, failure):
    fill(tmp_path / "folder", "first")

    def fail():
        with whole_folder(tmp_path / "folder") as aside:
            (aside / "half").touch()
            raise failure

    with pytest.raises((UserError, KeyboardInterrupt)):
        fail()
    assert names(tmp_path) == ["folder"]
    assert names(tmp_path / "folder" / "inner") == ["first"]


@pytest.mark.parametrize("fails_at", [1, 2])
def test_a_folder_that_cannot_be_moved_leaves_the_one_before(tmp_path, monkeypatch, fails_at):
    fill(tmp_path / "folder", "first")
    calls = []
    replace = os.replace

    def failing(*args):
        calls.append(args)
        if len(calls) == fails_at:
            raise OSError(errno.EACCES, "not allowed")
        replace(*args)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(UserError, match=r"folder: cannot be written \(not allowed\)"):
        fill(tmp_path / "folder", "second")
    assert names(tmp_path) == ["folder"]
    assert names(tmp_path / "folder" / "inner") == ["first"]
