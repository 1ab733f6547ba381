"""What stands in `predictions*.npz`, and what the files are called."""

import io

import numpy as np
import pytest

from moe.data.pipeline import Split
from moe.data.source import Examples
from moe.errors import UserError
from moe.evaluate.predict import Answers, answers_alone
from moe.evaluate.predictions import RUN_FILE, evaluation_file, read_answers, write_predictions

# Two examples, two classes, three experts.
ANSWERS = Answers(
    log_probs=np.log([[0.75, 0.25], [0.5, 0.5]]).astype(np.float32),
    answer=np.array([0, 1], np.int32),
    gate_log_probs=np.log([[0.5, 0.25, 0.25], [0.2, 0.2, 0.6]]).astype(np.float32),
    expert=np.array([0, 2], np.int32),
)
SPLIT = Split(
    Examples(np.zeros((2, 4), np.float32), np.array([1, 1], np.int32)), np.array([0, -1], np.int32)
)


def test_columns_by_hand(tmp_path):
    write_predictions(tmp_path / RUN_FILE, ANSWERS, SPLIT)
    with np.load(tmp_path / "predictions.npz", allow_pickle=False) as stored:
        assert {name: column.tolist() for name, column in stored.items() if "prob" not in name} == {
            "index": [0, 1],
            "label": [1, 1],
            "group": [0, -1],
            "answer": [0, 1],
            "expert": [0, 2],
        }
        np.testing.assert_allclose(stored["probabilities"], [[0.75, 0.25], [0.5, 0.5]], atol=1e-6)
        np.testing.assert_allclose(
            stored["gate_probabilities"], [[0.5, 0.25, 0.25], [0.2, 0.2, 0.6]], atol=1e-6
        )


def test_without_a_gate_there_is_no_gate_column(tmp_path):
    alone = answers_alone(ANSWERS.log_probs)
    write_predictions(tmp_path / RUN_FILE, alone, SPLIT)
    with np.load(tmp_path / RUN_FILE) as stored:
        assert "gate_probabilities" not in stored
        assert stored["expert"].tolist() == [-1, -1]
        assert stored["answer"].tolist() == [0, 0]


def test_answers_are_read_back(tmp_path):
    write_predictions(tmp_path / RUN_FILE, ANSWERS, SPLIT)
    read = read_answers(tmp_path / RUN_FILE)
    assert (read.answer.tolist(), read.label.tolist()) == ([0, 1], [1, 1])
    assert read.expert.tolist() == ANSWERS.expert.tolist()


def stored(**columns) -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, **columns)
    return content.getvalue()


def damaged(**changes) -> bytes:
    """A file whose columns are not what they should be."""
    whole = dict.fromkeys(("label", "answer", "expert"), np.zeros(3, int)) | changes
    return stored(**{name: column for name, column in whole.items() if column is not None})


WHOLE = damaged(index=np.arange(3))
ALONE = io.BytesIO()
np.save(ALONE, np.arange(3))
DAMAGED = {
    "empty": b"",
    "no zip": b"nothing",
    "an array alone": ALONE.getvalue(),
    "truncated": WHOLE[:-1],
    "half": WHOLE[: len(WHOLE) // 2],
    "changed": WHOLE.replace(WHOLE[60:64], b"....", 1),
    "objects": damaged(label=np.zeros(3, object)),
    "no label": damaged(label=None),
    "no rows": damaged(**dict.fromkeys(("label", "answer", "expert"), np.zeros(0, int))),
    "no answer": damaged(answer=None),
    "no expert": damaged(expert=None),
    "fewer answers": damaged(answer=np.zeros(2, int)),
    "fewer rows elsewhere": damaged(index=np.arange(2)),
    "numbers for columns": damaged(label=np.array(0)),
    "tables for columns": damaged(label=np.zeros((3, 2), int)),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file_is_one_line(tmp_path, kind):
    (tmp_path / RUN_FILE).write_bytes(DAMAGED[kind])
    with pytest.raises(UserError, match=r"predictions\.npz: is missing or damaged \("):
        read_answers(tmp_path / RUN_FILE)


@pytest.mark.parametrize("kind", ["empty", "no zip", "an array alone", "half"])
def test_nobody_is_told_to_unpickle_a_damaged_file(tmp_path, kind):
    (tmp_path / RUN_FILE).write_bytes(DAMAGED[kind])
    with pytest.raises(UserError, match=r"\(ValueError: no zip file\)"):
        read_answers(tmp_path / RUN_FILE)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"is missing or damaged \(FileNotFoundError"):
        read_answers(tmp_path / RUN_FILE)


def test_no_bit_can_flip_into_a_traceback_or_another_answer(tmp_path):
    for place in range(len(WHOLE)):
        flipped = bytearray(WHOLE)
        flipped[place] ^= 1 << (place % 8)
        (tmp_path / RUN_FILE).write_bytes(flipped)
        try:
            read = read_answers(tmp_path / RUN_FILE)
        except UserError:
            continue
        assert [column.tolist() for column in read] == [[0, 0, 0]] * 3


def test_a_disk_that_does_not_take_them_is_one_line(tmp_path):
    with pytest.raises(UserError, match="cannot be written"):
        write_predictions(tmp_path, ANSWERS, SPLIT)
    assert list(tmp_path.parent.glob(".*.tmp")) == []


@pytest.mark.parametrize(
    ("routing", "split", "name"),
    [
        ("hard", "test", "predictions-hard.npz"),
        ("expert:natural", "test", "predictions-expert-natural.npz"),
        ("hard", "validation", "predictions-validation-hard.npz"),
    ],
)
def test_every_routing_and_split_has_its_own_file(routing, split, name):
    assert evaluation_file(routing, split) == name != RUN_FILE
