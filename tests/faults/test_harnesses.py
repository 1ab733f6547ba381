"""The harnesses find nothing: a few tries every day, more of them in `make verify`."""

from __future__ import annotations

import json
import pathlib
import random
import subprocess
import sys

import pytest
import tensorflow as tf

from flags.define import eval_flags, train_flags
from moe.train.checkpoint import CheckpointStore
from tests.faults import byte_flips, fuzz, record
from tests.faults.fuzz import command_line

ROOT = pathlib.Path(__file__).parents[2]


def _find(harness: str, folder: pathlib.Path, count: int) -> dict:
    command = [sys.executable, "-m", f"tests.faults.{harness}", f"--count={count}"]
    answer = subprocess.run(
        [*command, f"--folder={folder / harness}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=3_000,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return json.loads(answer.stdout[answer.stdout.index("{\n") :])


@pytest.mark.slow
def test_a_few_kills_lose_nothing(tmp_path):
    found = _find("kill_storm", tmp_path, 3)
    assert found["kills"] == 3
    assert found["kills_during_a_save"] >= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("harness", "count"),
    [
        *(("kill_storm", 20), ("byte_flips", 100), ("disk_full", 6), ("stop_signals", 14)),
        *(("bad_inputs", 1_000), ("fuzz", 60)),
    ],
)
def test_a_harness_finds_nothing(tmp_path, harness, count):
    assert _find(harness, tmp_path, count)["faults"] == []


def test_every_flip_is_detected_or_harmless(tmp_path):
    store = CheckpointStore(tmp_path)
    for number in (3, 7):
        variables = {"gate": [tf.random.stateless_normal([40], (number, 1)), tf.constant(2.0)]}
        variables = {name: [tf.Variable(v) for v in group] for name, group in variables.items()}
        store.save(number, variables, {"step": number, "sums": [0.5, 1.5]})
    rng = random.Random(0)
    found = byte_flips.look(tmp_path, [byte_flips.draw(rng, tmp_path) for _ in range(100)])
    assert set(found) == {"detected", "harmless"}
    assert found.count("detected") > 50
    assert store.newest().number == 7  # every bit is back in its place


def test_other_values_would_be_seen(tmp_path, monkeypatch):
    """With checksums that agree with everything."""
    store = CheckpointStore(tmp_path)
    store.save(7, {"gate": [tf.Variable([1.0, 2.0])]}, {})
    monkeypatch.setattr("moe.train.checkpoint.digest_of", lambda path: "0")
    store.save(8, {"gate": [tf.Variable([1.0, 2.0])]}, {})
    (found,) = byte_flips.look(tmp_path, [("ckpt-8.data-00000-of-00001", 2, 0)])
    assert found not in ("detected", "harmless")


def test_command_lines_are_of_both_kinds():
    rng = random.Random(0)
    lines = [command_line(rng) for _ in range(500)]
    assert len({str(line) for line in lines}) > 450
    assert {program for program, _ in lines} == {"train", "eval"}


@pytest.mark.parametrize(("program", "defined"), [("train", train_flags), ("eval", eval_flags)])
def test_every_flag_is_given_to_a_program_or_has_a_reason(program, defined):
    fuzzed = fuzz.given_flags(program)
    assert {*defined()} - {"flagfile", "undefok"} == fuzzed | (fuzz.NOT_GIVEN.keys() & {*defined()})
    assert not fuzzed & fuzz.NOT_GIVEN.keys()
    rng = random.Random(0)
    lines = [flags for each, flags in (command_line(rng) for _ in range(3_000)) if each == program]
    given = {flag.partition("=")[0].removeprefix("--") for flags in lines for flag in flags}
    assert fuzzed <= given


def test_the_page_shows_what_was_found():
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert record.whole_page(page, record.section()) == page


def test_what_was_found_becomes_a_table(tmp_path):
    content = {"kills": 1234, "by_moment": {"save": 3}, "command": "python x", "device": "CPU"}
    content |= {"versions": {"python": "3"}, "revision": "abc", "faults": [], "seed": 0, "count": 9}
    (tmp_path / "kill_storm.json").write_text(json.dumps(content))
    section = record.section(tmp_path)
    assert "### kill storm" in section
    assert "| kills | 1,234 |\n| by moment | save 3 |\n| faults | 0 |" in section
    assert "`python x`; CPU; python 3; revision abc" in section
    page = "a\n" + record.section(tmp_path / "nothing") + "b\n"
    assert record.whole_page(page, section) == f"a\n{section}b\n"
