from __future__ import annotations

import pathlib

import pytest
from rows import make_row, make_rows

from moe.report.finding import BEGIN, END, compared, finding, put_between, summarized
from moe.report.results_page import load_about, load_comparisons

ROOT = pathlib.Path(__file__).parents[2]
TOY = {"baseline": 0.7, "joint-hard": 0.8, "wide-hard": 0.75}


def test_the_readme_says_what_the_rows_say():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    summaries = summarized(load_comparisons(ROOT / "docs" / "results"))
    assert put_between(text, finding(summaries, load_about(ROOT / "docs" / "results"))) == text
    assert (ROOT / "docs" / "finding.png").is_file()


def test_a_mixture_stands_beside_every_control():
    summaries = summarized({"toy": make_rows(3, TOY)})
    text = finding(summaries, {"toy": "Made up."})
    assert text.startswith(
        "- **toy** (`toy`, epochs:3): Made up. joint-hard is the only mixture here (validation: "
    )
    assert "joint-hard is ahead of baseline, wide-hard. Controls that were not trained: ave" in text
    for control, macs in (("baseline", "27 M"), ("wide-hard", "105 M")):
        (line,) = (line for line in text.splitlines() if f"| {control} |" in line)
        assert line.startswith("| toy | joint-hard | 79.")
        assert f"| {macs} | 3 | +" in line
        assert line.endswith("] | ahead |")
    assert list(compared(summaries)) == [
        "toy: joint-hard - baseline",
        "toy: joint-hard - wide-hard",
    ]


def test_a_line_is_of_the_seeds_that_both_sides_have():
    rows = [
        *(make_row("joint-hard", seed, 0.8) for seed in range(3)),
        make_row("wide-hard", 0, 0.7),
    ]
    text = finding(summarized({"toy": rows}), {})
    (line,) = (line for line in text.splitlines() if "| wide-hard |" in line)
    (mixture, control) = (100 * rows[n]["test"]["accuracy"] for n in (0, 3))
    assert line.startswith(f"| toy | joint-hard | {mixture:.2f} |")
    assert f"| wide-hard | {control:.2f} |" in line
    assert f"| 1 | {mixture - control:+.2f} [" in line


def test_a_comparison_without_a_choice_is_said_to_be_one():
    summaries = summarized({"begun": make_rows(1, {"baseline": 0.7}), "empty": []})
    assert "- **begun** (`toy`, epochs:3): No mixture is finished" in finding(summaries, {})
    assert "empty" not in summaries
    assert compared(summaries) == {}


def test_what_stands_around_the_finding_stays():
    assert put_between(f"a\n{BEGIN}old{END}b\n", "new\n") == f"a\n{BEGIN}\nnew\n\n{END}b\n"
    with pytest.raises(ValueError, match="not found"):
        put_between("no marks", "new")
