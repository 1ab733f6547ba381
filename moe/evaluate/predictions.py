"""`predictions*.npz`: answers on one split, example by example."""

from __future__ import annotations

import io
import pathlib

import numpy as np

from moe.data.pipeline import Split
from moe.evaluate.predict import Answers
from moe.files import write_whole

RUN_FILE = "predictions.npz"
"""The run's own answers on the test split. Only training writes it."""


def evaluation_file(routing: str, split: str) -> str:
    """What `eval.py` calls its file: `predictions-hard.npz`, `predictions-validation-hard.npz`."""
    where = "" if split == "test" else f"{split}-"
    return f"predictions-{where}{routing.replace(':', '-')}.npz"


def write_predictions(path: pathlib.Path, answers: Answers, split: Split) -> None:
    """One row an example, in the order of the split; the columns are listed in `docs/files.md`.

    Raises:
      UserError: the disk does not take it; a file that stood there before still does.
    """
    content = io.BytesIO()
    np.savez_compressed(
        content,
        index=np.arange(len(split), dtype=np.int32),
        label=split.examples.label,
        group=split.group,
        probabilities=np.exp(answers.log_probs),
        answer=answers.answer,
        gate_probabilities=np.exp(answers.gate_log_probs),
        expert=answers.expert,
    )
    write_whole(path, content.getvalue())
