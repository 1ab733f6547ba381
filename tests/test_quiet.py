"""Loading TensorFlow: what it says is held back, unless loading fails; garbage is left lying."""

from __future__ import annotations

import gc
import os

import pytest

from moe.quiet import garbage_left_lying, native_stderr_held_back


def test_native_lines_are_held_back(capfd):
    with native_stderr_held_back():
        os.write(2, b"cpu_feature_guard\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_native_lines_of_a_failure_are_shown(capfd):
    def load():
        os.write(2, b"libcudart: no such file\n")
        raise ImportError

    with pytest.raises(ImportError), native_stderr_held_back():
        load()
    assert "libcudart: no such file" in capfd.readouterr().err


@pytest.fixture
def thaws():
    yield
    gc.unfreeze()


def test_garbage_is_left_lying_for_a_while_and_what_stays_is_not_looked_at_again(thaws):
    before = gc.get_freeze_count()
    with garbage_left_lying():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() > before


def test_garbage_is_collected_again_whatever_happens(thaws):
    with pytest.raises(ImportError), garbage_left_lying():
        raise ImportError
    assert gc.isenabled()
