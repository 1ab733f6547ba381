from __future__ import annotations

import os
import time

import numpy as np
import pytest

from moe.data.cache import cached
from moe.data.source import Examples

EXAMPLES = Examples(np.arange(12, dtype=np.uint8).reshape(3, 4), np.array([0, 1, 2], np.int32))


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "records"
    path.write_bytes(b"content")
    return path


@pytest.fixture
def read(tmp_path, source):
    """Reads through the cache; `read.calls` counts how often it had to decode."""

    def decode() -> Examples:
        read.calls += 1
        return EXAMPLES

    def read() -> Examples:
        return cached("toy-train", [source], decode, tmp_path / "cache")

    read.calls = 0
    return read


def _assert_right(examples: Examples) -> None:
    np.testing.assert_array_equal(examples.features, EXAMPLES.features)
    np.testing.assert_array_equal(examples.label, EXAMPLES.label)
    assert examples.features.dtype == np.uint8
    assert examples.group is None


def test_the_second_start_decodes_nothing(read):
    for _ in range(3):
        _assert_right(read())
    assert read.calls == 1


def test_a_changed_source_is_decoded_again(read, source):
    read()
    source.write_bytes(b"Content")  # the same size
    _assert_right(read())
    assert read.calls == 2


@pytest.mark.parametrize("file", ["features.npy", "label.npy", "manifest.json"])
def test_a_damaged_entry_is_replaced(read, tmp_path, file):
    read()
    (path,) = (tmp_path / "cache").glob(f"*/{file}")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    _assert_right(read())
    _assert_right(read())
    assert read.calls == 2


def test_two_writers_do_not_disturb_each_other(tmp_path, source):
    def decode_while_another_finishes() -> Examples:
        cached("toy", [source], lambda: EXAMPLES, tmp_path / "cache")
        return EXAMPLES

    _assert_right(cached("toy", [source], decode_while_another_finishes, tmp_path / "cache"))
    assert len(list((tmp_path / "cache").iterdir())) == 1


def _age(folder, seconds: float) -> None:
    """As if the folder and its files had been left alone for so long."""
    then = time.time() - seconds
    for path in (folder, *folder.iterdir()):
        os.utime(path, (then, then))


def test_what_nobody_uses_any_more_is_removed(read, tmp_path, source):
    day, cache = 24 * 3_600, tmp_path / "cache"
    read()
    (old,) = cache.iterdir()
    _age(old, 8 * day)
    others = [cache / name for name in ("toy-train-0", "toy-0123456789abcdef", "notes")]
    killed, writing = cache / ".incomplete-killed", cache / ".incomplete-writing"
    for folder in (*others, killed, writing):
        folder.mkdir()
        (folder / "features.npy").touch()
        _age(folder, 8 * day)
    (writing / "features.npy").touch()  # an old folder, but somebody works in it
    read()
    assert old.is_dir()  # used just now, and nothing was stored
    source.write_bytes(b"Content")
    read()
    assert old.is_dir()
    assert writing.is_dir()
    assert not killed.exists()
    _age(old, 8 * day)
    source.write_bytes(b"another")
    read()
    assert not old.exists()
    assert all(folder.is_dir() for folder in others)
    # The one before the last was used within the week.
    assert len(list(cache.glob("toy-train-????????????????"))) == 2


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, source):
    blocked = tmp_path / "file"
    blocked.touch()
    _assert_right(cached("toy", [source], lambda: EXAMPLES, blocked / "cache"))
