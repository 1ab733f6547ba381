"""What stands in the event files, read back by TensorBoard itself."""

import io
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from moe.errors import UserError
from moe.train.progress import Reporter
from moe.train.tensorboard import Board

EXPERTS = ("cats", "dogs")
TRAIN = {
    "step": 8,
    "epoch": 1,
    "stage": "joint",
    "split": "train",
    "loss": 0.5,
    "load": [0.25, 0.75],
}
VALIDATION = {
    "step": 8,
    "epoch": 1,
    "stage": "joint",
    "split": "validation",
    "accuracy": 0.75,
    "expert_by_class": [[3, 0, 1], [1, 0, 0]],
}


def _read(folder: pathlib.Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    return events.Reload()


def _scalars(folder: pathlib.Path) -> dict[str, list[tuple[int, float]]]:
    events = _read(folder)
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_records_become_scalars(tmp_path):
    board = Board(tmp_path, EXPERTS)
    for record in (TRAIN, VALIDATION, TRAIN | {"step": 16, "loss": 0.25}):
        board.add(record)
    assert _scalars(tmp_path / "train") == {  # there before anything is closed
        "joint/loss": [(8, 0.5), (16, 0.25)],
        "joint/load/cats": [(8, 0.25), (16, 0.25)],
        "joint/load/dogs": [(8, 0.75), (16, 0.75)],
    }
    assert _scalars(tmp_path / "validation") == {"joint/accuracy": [(8, 0.75)]}
    board.close()


def test_the_heat_map_is_an_image(tmp_path):
    board = Board(tmp_path, EXPERTS)
    board.add(VALIDATION)
    (image,) = _read(tmp_path / "validation").Images("joint/expert_by_class")
    pixels = tf.io.decode_png(image.encoded_image_string).numpy()[..., 0]
    assert pixels.shape == (image.height, image.width) == (32, 48)
    # Of class 0 three quarters, of class 1 there is nothing, of class 2 all.
    np.testing.assert_array_equal(pixels[::16, ::16], [[191, 0, 255], [64, 0, 0]])
    board.close()


def test_what_has_no_numbers_is_left_out(tmp_path):
    Board(tmp_path, EXPERTS).add({"event": "continued", "step": 3})
    assert not list(tmp_path.iterdir())


def test_a_continued_run_writes_no_step_twice(tmp_path):
    events = tmp_path / "tensorboard"
    for steps in ((8, 16, 24), (24, 32)):  # killed after step 24, continued from step 16
        reporter = Reporter(tmp_path / "metrics.jsonl", io.StringIO(), board=Board(events, EXPERTS))
        reporter.drop(lambda record: record["step"] > 16)
        for step in steps:
            reporter.log(TRAIN | {"step": step, "loss": step})
        reporter.close()
    assert _scalars(events / "train")["joint/loss"] == [(n, n) for n in (8, 16, 24, 32)]


def test_other_files_of_the_folder_stay(tmp_path):
    profile = tmp_path / "plugins" / "profile" / "host.xplane.pb"
    profile.parent.mkdir(parents=True)
    profile.touch()
    Board(tmp_path, EXPERTS).restart([TRAIN])
    assert profile.exists()


def test_a_folder_that_cannot_be_written_is_an_error_of_the_user(tmp_path):
    (tmp_path / "train").touch()
    with pytest.raises(UserError, match="cannot be written"):
        Board(tmp_path, EXPERTS).add(TRAIN)
