"""The page: whole, self-contained, and what it says is escaped."""

import base64
import html.parser
import json
import re

import numpy as np
import pytest
from story import NOTE, RESULTS, make_evaluation, make_records

from moe.errors import UserError
from moe.report import available
from moe.report.available import report_wanted
from moe.report.page import page
from moe.report.write import write_report

IMAGES = np.random.default_rng(0).integers(0, 255, (60, 8, 8, 3)).astype(np.uint8)


class Reader(html.parser.HTMLParser):
    """Collects tags with their attributes, and the visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.said = ""
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.said += f" {' '.join(data.split())}"

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


def _folder(tmp_path, evaluation, results=RESULTS, records=()):
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation))
    if results:
        (tmp_path / "results.json").write_text(json.dumps(results))
    if records:
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (tmp_path / "metrics.jsonl").write_text(lines)
    return tmp_path


def test_a_report_holds_everything_in_one_file(tmp_path):
    workdir = _folder(tmp_path, make_evaluation(), records=make_records())
    path = write_report(workdir, IMAGES)
    assert path == workdir / "report.html"
    text = path.read_text()
    content = Reader(text)
    assert not content.open
    images = content.all("img")
    figures = {file.read_bytes() for file in (workdir / "figures").glob("*.png")}
    assert len(figures) == len(images) == 11
    data = {base64.b64decode(i["src"].removeprefix("data:image/png;base64,")) for i in images}
    assert data == figures
    assert all(len(image["alt"]) > 20 for image in images)
    # Nothing else is loaded, and nothing runs.
    assert not re.search(r"https?:|url\(|@import", text)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in content.tags}
    targets = {attributes["id"] for _, attributes in content.tags if "id" in attributes}
    assert {link["href"].removeprefix("#") for link in content.all("a")} == targets


def test_what_went_wrong_is_a_table():
    said = " ".join(Reader(page(make_evaluation(), RESULTS, [])).said.split())
    assert "dead expert expert 1 joint 2 dead expert: expert 1 has 0.00% of the say" in said
    for results in (None, RESULTS | {"health": []}):
        assert "Health" not in Reader(page(make_evaluation(), results, [])).said


def test_it_says_where_it_comes_from(tmp_path):
    said = " ".join(Reader(page(make_evaluation(), RESULTS, [])).said.split())
    for fact in (
        *(NOTE, "toy", "joint", "hard", "60 examples of the test split", "float32", "CPU"),
        *("python train.py --mode=joint", "python eval.py --workdir=run", "tensorflow 2.21"),
    ):
        assert fact in said
    assert " seed 3 " in said


def test_numbers_by_hand():
    evaluation = make_evaluation(experts=3)
    under = evaluation["routings"]["hard"]
    under |= {"accuracy": 0.625, "nll": 1.25, "ablation": [0.125, -0.01, 0]}
    under["oracle_gap"] = {"oracle_best": 0.1}
    said = Reader(page(evaluation, None, [])).said
    said = " ".join(said.split())
    assert "mixture, hard 62.50" in said
    assert re.search(r"hard 1\.2500 \S+ \S+ – \+10\.00", said)
    lost = re.findall(r"expert \d \d\.\d{3} 25\.00 (\S+)", said)
    assert lost == ["+12.50", "-1.00", "+0.00"]
    assert "combiner_2 (expert 2) 1,234,567 76,543,210" in said
    evaluation["groups"] = ["expert_0", "expert_1", "expert_2"]  # as where nobody named them
    evaluation["parts"]["experts"] = {name: {"accuracy": 0.25} for name in evaluation["groups"]}
    assert "expert_2 1,234,567" in " ".join(Reader(page(evaluation, None, [])).said.split())


def test_what_others_wrote_is_escaped():
    evaluation = make_evaluation()
    evaluation |= {"dataset": "<script>x</script>", "command": "python eval.py '<i>\"&'"}
    text = page(evaluation, None, [])
    assert not Reader(text).all("script")
    assert not Reader(text).all("i")
    assert "&lt;script&gt;" in text


def test_a_single_network_has_a_report_too(tmp_path):
    evaluation = make_evaluation()
    for key in ("gate",):
        del evaluation[key]
    evaluation |= {"mode": "baseline", "routings": {}, "parts": {"baseline": {"accuracy": 0.5}}}
    evaluation["architecture"]["parts"] = {"baseline": {"parameters": 1, "macs": 1}}
    workdir = _folder(tmp_path, evaluation, records=make_records(stages=("baseline",)))
    content = Reader(write_report(workdir, IMAGES).read_text())
    assert "baseline 50.00" in " ".join(content.said.split())
    assert len(content.all("img")) == 2  # curves by step and by the clock


def test_figures_of_an_older_report_go(tmp_path):
    workdir = _folder(tmp_path, make_evaluation(), results=None)
    (workdir / "figures").mkdir()
    (workdir / "figures" / "images.png").touch()
    write_report(workdir, np.zeros((60, 4), np.float32))
    assert not (workdir / "figures" / "images.png").exists()
    assert (workdir / "figures" / "load.png").exists()


def test_a_report_is_written_where_it_can_be(monkeypatch, capsys):
    assert report_wanted(None)
    assert report_wanted(True)
    assert not report_wanted(False)
    assert not capsys.readouterr().err
    monkeypatch.setattr(available, "_NEEDED", {"no_such_package": "Nothing"})
    assert not report_wanted(None)
    (line,) = capsys.readouterr().err.splitlines()
    assert 'they need Nothing (pip install --editable ".[report]")' in line
    assert not report_wanted(False)
    assert not capsys.readouterr().err
    with pytest.raises(UserError, match="--report needs Nothing"):
        report_wanted(True)
