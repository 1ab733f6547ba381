"""What stands in `predictions*.npz`, and what the files are called."""

import numpy as np
import pytest

from moe.data.pipeline import Split
from moe.data.source import Examples
from moe.errors import UserError
from moe.evaluate.predict import Answers
from moe.evaluate.predictions import RUN_FILE, evaluation_file, write_predictions

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
