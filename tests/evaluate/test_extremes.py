import numpy as np

from moe.evaluate.extremes import extremes

# Expert 0 answers examples 0, 1, 3, 4; expert 1 example 2, expert 2 nothing.
EXPERT = np.array([0, 0, 1, 0, 0])
GATE = np.array([[0.6, 0.4, 0], [0.9, 0.1, 0], [0.2, 0.8, 0], [0.5, 0.5, 0], [0.6, 0.3, 0.1]])
SURE = np.array([[0.1, 0, 0], [0.2, 0, 0], [0, 0.7, 0], [0.3, 0, 0], [0.4, 0, 0]])
LABEL = np.array([3, 2, 1, 0, 3])
ANSWER = np.array([3, 1, 1, 1, 3])


def _found(size):
    return extremes(
        gate_probabilities=GATE,
        expert_probabilities=SURE,
        expert=EXPERT,
        answer=ANSWER,
        label=LABEL,
        size=size,
    )


def test_the_most_and_the_least_confident_examples_of_each_expert():
    first, second, third = _found(1)
    assert first == {
        "most": [{"index": 1, "label": 2, "answer": 1, "gate": 0.9, "expert": 0.2}],
        "least": [{"index": 3, "label": 0, "answer": 1, "gate": 0.5, "expert": 0.3}],
    }
    # One example cannot be both.
    assert [row["index"] for row in second["most"]] == [2]
    assert second["least"] == third["most"] == third["least"] == []


def test_no_example_is_both_and_equals_stay_in_order():
    first = _found(9)[0]
    assert [row["index"] for row in first["most"]] == [1, 0]
    assert [row["index"] for row in first["least"]] == [3, 4]
