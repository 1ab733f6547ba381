"""What stands in the event files, read back by TensorBoard itself."""

import io
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from moe.errors import UserError
from moe.train.progress import Reporter
from moe.train.routing_watch import Routed, RoutingWatch
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


def test_a_mixture_is_followed_while_it_trains(tmp_path):
    """From what the gate says to the charts: how many experts are used, and for what."""
    gate = np.log([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.9, 0.1]]).astype(np.float32)
    sent = np.eye(2, dtype=np.float32)[[0, 0, 1, 0]]
    routed = Routed(gate, np.array([0, 0, 1, 0], np.int32), sent, np.exp(gate))
    label, group = np.array([0, 1, 2, 0]), np.array([0, 1, 1, 0])
    found = RoutingWatch(label, group, num_classes=3).look(routed)
    board = Board(tmp_path, EXPERTS)
    board.add({key: VALIDATION[key] for key in ("step", "epoch", "stage", "split")} | found)
    scalars = _scalars(tmp_path / "validation")
    # The mean gate is (.75, .25); who answers tells label 2 from the others.
    used = np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))
    told = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    for name, value in (
        ("effective_experts", used),
        ("mutual_information", told),
        ("dead_experts", 0),
        ("importance/dogs", 0.25),
    ):
        assert scalars[f"joint/{name}"] == [(8, pytest.approx(value, rel=1e-5))]
    (image,) = _read(tmp_path / "validation").Images("joint/expert_by_group")
    pixels = tf.io.decode_png(image.encoded_image_string).numpy()[..., 0]
    np.testing.assert_array_equal(pixels[::16, ::16], [[255, 128], [0, 128]])
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
