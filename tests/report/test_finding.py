from __future__ import annotations

import pathlib

import pytest
from PIL import Image
from rows import make_row, make_rows

from moe.compare.summary import summarize
from moe.errors import UserError
from moe.report.comparisons import Comparison, load_comparisons
from moe.report.finding import BEGIN, END, compared, digest, finding, put_between

ROOT = pathlib.Path(__file__).parents[2]
TOY = {"baseline": 0.7, "joint-hard": 0.8, "wide-hard": 0.75}


def _comparison(rows, about=""):
    return Comparison(about, rows, summarize(rows))


def test_the_readme_says_what_the_rows_say():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    comparisons = load_comparisons(ROOT / "docs" / "results")
    assert put_between(text, finding(comparisons)) == text
    with Image.open(ROOT / "docs" / "finding.png") as picture:
        assert picture.text["Description"] == digest(comparisons)


def test_a_mixture_stands_beside_every_control():
    comparisons = {"toy": _comparison(make_rows(3, TOY), "Made up.\nOf\nnumbers.")}
    text = finding(comparisons)
    assert (
        "\n- **toy** (`toy`, epochs:3): Made up. joint-hard reaches 79.33 ± 0.33 %: ahead of "
        in text
    )
    assert "ahead of baseline (+9.44), wide-hard (+4.58)" in text
    assert "- **toy**: Of numbers. joint-hard is the only mixture here (validation: " in text
    for control, macs in (("baseline", "27.00 M"), ("wide-hard", "105.0 M")):
        (line,) = (line for line in text.splitlines() if f"| {control} |" in line)
        assert line.startswith("| toy | joint-hard | 79.")
        assert f"| {macs} | 1.000 T | 3 | +" in line
        assert line.endswith("] | ahead |")
    assert list(compared(comparisons)) == [
        "toy: joint-hard - baseline",
        "toy: joint-hard - wide-hard",
    ]


def test_an_old_figure_is_known_by_its_digest():
    rows = make_rows(3, TOY)
    shown = digest({"toy": _comparison(rows)})
    assert digest({"toy": _comparison(rows, "Made up.")}) == shown
    assert digest({"toys": _comparison(rows)}) != shown
    assert digest({"toy": _comparison(make_rows(3, TOY | {"baseline": 0.71}))}) != shown


def test_a_line_is_of_the_seeds_that_both_sides_have():
    rows = [
        *(make_row("joint-hard", seed, 0.8) for seed in range(3)),
        make_row("wide-hard", 0, 0.7),
    ]
    text = finding({"toy": _comparison(rows)})
    (line,) = (line for line in text.splitlines() if "| wide-hard |" in line)
    (mixture, control) = (100 * rows[n]["test"]["accuracy"] for n in (0, 3))
    assert line.startswith(f"| toy | joint-hard | {mixture:.2f} |")
    assert f"| wide-hard | {control:.2f} |" in line
    assert f"| 1 | {mixture - control:+.2f} [" in line


def test_a_comparison_without_a_choice_is_said_to_be_one():
    comparisons = {"begun": _comparison(make_rows(1, {"baseline": 0.7}))}
    assert "- **begun** (`toy`, epochs:3): No mixture is among these" in finding(comparisons)
    assert compared(comparisons) == {}


def test_a_folder_without_a_row_is_no_comparison(tmp_path):
    (tmp_path / "compare" / "empty").mkdir(parents=True)
    assert load_comparisons(tmp_path) == {}


def test_what_stands_around_the_finding_stays():
    assert put_between(f"a\n{BEGIN}old{END}b\n", "new\n") == f"a\n{BEGIN}\nnew\n\n{END}b\n"
    with pytest.raises(UserError, match="has lost its mark '<!-- finding -->'; put it back"):
        put_between("no marks", "new")
