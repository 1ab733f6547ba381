from __future__ import annotations

import io
import json
import pathlib

import pytest

from moe.errors import UserError
from moe.train.progress import Reporter


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _reporter(tmp_path, stream):
    now = [0.0]
    return Reporter(tmp_path / "metrics.jsonl", stream, clock=lambda: now[0]), now


def test_on_a_terminal_there_is_a_bar_with_speed_and_time_left(tmp_path):
    stream = Terminal()
    reporter, _ = _reporter(tmp_path, stream)
    reporter.start_epoch("gate 1/2", done=2, steps=10, batch_size=8)
    reporter.advance(10, examples=64, loss=0.5)
    reporter.end_epoch()
    shown = stream.getvalue()
    assert "gate 1/2" in shown
    assert "ex/s" in shown
    assert "20%" in shown  # two of ten steps were done before


def test_elsewhere_there_are_plain_lines_now_and_then(tmp_path):
    stream = io.StringIO()
    reporter, now = _reporter(tmp_path, stream)
    reporter.start_epoch("gate 1/2", done=0, steps=10, batch_size=8)
    reporter.advance(1, examples=8, loss=0.5)
    assert not stream.getvalue()
    now[0] += 31
    reporter.advance(2, examples=8, loss=0.25)
    reporter.advance(3, examples=8, loss=0.2)
    assert stream.getvalue() == "gate 1/2: step 2/10, loss 0.2500\n"


def test_metrics_are_appended_as_json_lines(tmp_path):
    for step in (1, 2):
        reporter, _ = _reporter(tmp_path, io.StringIO())
        reporter.log({"step": step})
        reporter.close()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]


def test_dropped_records_are_gone_and_the_file_goes_on(tmp_path):
    reporter, _ = _reporter(tmp_path, io.StringIO())
    for step in (1, 2, 3):
        reporter.log({"step": step})
    reporter.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('null\n7\n["step"]\n{"step": 1, "los')  # the process was killed here
    reporter, _ = _reporter(tmp_path, io.StringIO())
    reporter.drop(lambda record: record["step"] > 2)
    reporter.log({"step": 4})
    reporter.close()
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n{"step": 4}\n'


def test_a_folder_in_place_of_the_metrics_is_refused(tmp_path):
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(UserError, match=r"metrics.jsonl: .*Is a directory"):
        _reporter(tmp_path, io.StringIO())


@pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="no disk that is full")
def test_a_full_disk_is_an_error_of_the_user():
    reporter = Reporter(pathlib.Path("/dev/full"), io.StringIO())
    with pytest.raises(UserError, match=r"/dev/full: .*No space left"):
        reporter.log({"step": 1})
