"""`predictions*.npz`: answers on one split, example by example."""

from __future__ import annotations

import io
import pathlib
import zipfile
import zlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from moe.errors import UserError, reason
from moe.files import write_whole

if TYPE_CHECKING:  # whoever reads answers needs no TensorFlow
    from moe.data.pipeline import Split
    from moe.evaluate.predict import Answers

RUN_FILE = "predictions.npz"
"""The run's own answers on the test split. Only training writes it."""

# What NumPy, zipfile and zlib say about a file that was cut or changed anywhere.
_DAMAGED = (
    OSError,
    EOFError,
    KeyError,
    RuntimeError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)


def evaluation_file(routing: str, split: str) -> str:
    """What `eval.py` calls its file: `predictions-hard.npz`, `predictions-validation-hard.npz`."""
    where = "" if split == "test" else f"{split}-"
    return f"predictions-{where}{routing.replace(':', '-')}.npz"


def write_predictions(path: pathlib.Path, answers: Answers, split: Split) -> None:
    """One row an example, in the order of the split; the columns are listed in `docs/files.md`.

    Raises:
      UserError: the disk does not take it; a file that stood there before still does.
    """
    columns = {
        "index": np.arange(len(split), dtype=np.int32),
        "label": split.examples.label,
        "group": split.group,
        "probabilities": np.exp(answers.log_probs),
        "answer": answers.answer,
        "expert": answers.expert,
    }
    if answers.gate_log_probs is not None:
        columns["gate_probabilities"] = np.exp(answers.gate_log_probs)
    content = io.BytesIO()
    np.savez_compressed(content, **columns)
    write_whole(path, content.getvalue())


class StoredAnswers(NamedTuple):
    """What a run answered, each `<int32>[N]`; an `expert` of -1 is no one expert."""

    answer: np.ndarray
    label: np.ndarray
    expert: np.ndarray


def read_answers(path: pathlib.Path) -> StoredAnswers:
    """The columns of a file that a comparison needs.

    Raises:
      UserError: the file is missing or damaged.
    """
    try:
        if path.exists() and not zipfile.is_zipfile(path):
            raise ValueError("no zip file")  # NumPy would propose to unpickle it
        with np.load(path, allow_pickle=False) as stored:
            columns = {name: stored[name] for name in stored.files}
        found = StoredAnswers(*(columns[name] for name in StoredAnswers._fields))
        lengths = {len(column) for column in columns.values()}
        if len({column.shape for column in found}) > 1 or len(lengths) > 1 or lengths == {0}:
            raise ValueError("its columns are empty or differ in length")
    except _DAMAGED as error:
        raise UserError(f"{path}: is missing or damaged ({reason(error)}).") from error
    return found
