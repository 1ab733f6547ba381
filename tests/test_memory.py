"""One heap for all threads, set before they are there."""

from __future__ import annotations

import ctypes
import os
import platform
import types

import pytest

from moe import memory


@pytest.mark.parametrize(
    ("library", "cpus", "asked"), [("glibc", 2, 1), ("glibc", 64, 0), ("", 2, 0)]
)
def test_the_heap_is_shared_on_few_cpus_with_glibc_only(monkeypatch, library, cpus, asked):
    calls = []
    fake = types.SimpleNamespace(mallopt=lambda *values: calls.append(values))
    monkeypatch.setattr(platform, "libc_ver", lambda: (library, ""))
    monkeypatch.setattr(os, "cpu_count", lambda: cpus)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: fake)
    memory.use_one_arena()
    assert calls == [(-8, 1)] * asked
