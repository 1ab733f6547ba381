"""The grid of networks, routers, precisions and devices: a few every day, all in `verify`."""

from __future__ import annotations

import itertools
import pathlib
import subprocess
import sys

import pytest

from tests.conformance.grid import DIMENSIONS, cover, pairs_of

ROOT = pathlib.Path(__file__).parents[2]


def _walk(*arguments: str) -> str:
    answer = subprocess.run(
        [sys.executable, "-m", "tests.conformance.grid", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=3_600,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def test_every_two_values_meet_in_the_cover():
    every = list(itertools.product(*DIMENSIONS))
    met = set().union(*map(pairs_of, cover()))
    assert met == set().union(*map(pairs_of, every))
    assert len(cover()) <= 20 < len(every)


@pytest.mark.parametrize(
    ("part", "parts"), [(0, 12), *(pytest.param(n, 2, marks=pytest.mark.slow) for n in range(2))]
)
def test_every_pair_trains(part, parts):
    assert " 0 faults" in _walk("--cover=pairs", f"--part={part}", f"--parts={parts}")


@pytest.mark.slow
@pytest.mark.parametrize("part", range(3))
def test_every_combination_trains_and_continues_exactly(part):
    told = _walk("--cover=all", "--continued", f"--part={part}", "--parts=3")
    assert "30 combinations, 0 faults" in told
