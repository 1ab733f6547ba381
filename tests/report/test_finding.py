from __future__ import annotations

import pathlib

import pytest
from rows import make_rows

from moe.report.finding import BEGIN, END, chosen, compared, finding, put_between
from moe.report.results_page import load_comparisons

ROOT = pathlib.Path(__file__).parents[2]
TOY = {"baseline": 0.7, "joint-hard": 0.8, "wide-hard": 0.75}


def test_the_readme_says_what_the_rows_say():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    summaries = chosen(load_comparisons(ROOT / "docs" / "results"))
    assert put_between(text, finding(summaries)) == text
    assert (ROOT / "docs" / "finding.png").is_file()


def test_a_mixture_stands_beside_every_control():
    summaries = chosen({"toy": make_rows(3, TOY)})
    text = finding(summaries)
    assert text.startswith(
        "- **toy** (`toy`, epochs:3): joint-hard is the only mixture here (validation: mean 80.00 %"
    )
    assert "joint-hard is ahead of every control that was trained; average-hard" in text
    for control, macs in (("baseline", "27 M"), ("wide-hard", "105 M")):
        (line,) = (line for line in text.splitlines() if f"| {control} |" in line)
        assert line.startswith("| toy | joint-hard | 79.")
        assert f"| {macs} | 3 | +" in line
        assert line.endswith("] | ahead |")
    assert list(compared(summaries)) == [
        "toy: joint-hard - baseline",
        "toy: joint-hard - wide-hard",
    ]


def test_without_a_mixture_there_is_no_finding():
    assert chosen({"begun": make_rows(1, {"baseline": 0.7}), "empty": []}) == {}


def test_what_stands_around_the_finding_stays():
    assert put_between(f"a\n{BEGIN}old{END}b\n", "new\n") == f"a\n{BEGIN}\nnew\n\n{END}b\n"
    with pytest.raises(ValueError, match="not found"):
        put_between("no marks", "new")
