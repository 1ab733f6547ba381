from __future__ import annotations

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


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, source):
    blocked = tmp_path / "file"
    blocked.touch()
    _assert_right(cached("toy", [source], lambda: EXAMPLES, blocked / "cache"))
