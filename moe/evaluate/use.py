"""`eval.py --export` and `--predict`: a trained mixture in use, without the data it came from."""

from __future__ import annotations

import csv
import io
import pathlib
from collections.abc import Sequence

import numpy as np

from moe.config.choices import ROUTINGS
from moe.config.tools import EvalConfig
from moe.data.pipeline import Split
from moe.data.source import Examples
from moe.evaluate.examine import asking
from moe.evaluate.inputs import read_inputs
from moe.evaluate.predict import (
    Answers,
    answers_alone,
    predict_dense,
    predict_parts,
    predict_routed,
)
from moe.evaluate.run import asked_routings
from moe.evaluate.tables import format_table
from moe.files import write_whole
from moe.models.routers import Way, make_router
from moe.run_files import find_run
from moe.serving import write_export
from moe.train.devices import choose_device
from moe.trained import Trained, open_trained

_LINES = 20
_COLUMNS = ("file", "answer", "probability", "expert", "gate probability")
_Row = tuple[str, str, float, str | None, float | None]


def use(config: EvalConfig) -> int:
    """Exports a run, classifies files with it, or both; returns the exit code.

    Raises:
      UserError: something the user can mend.
    """
    workdir = pathlib.Path(config.workdir)
    choose_device(find_run(workdir).config.runtime)
    precision = "float32" if config.export else config.precision
    trained = open_trained(workdir, precision, config.tta)
    names, top_k = asked_routings(config, trained, trained.mixture, trained.parts)
    routing = names[0] if trained.routes() else "baseline"
    way = None
    if routing in ROUTINGS:
        way = make_router(routing, top_k, gate_threshold=config.gate_threshold).evaluate
    if config.export:
        print(f"exported: {write_export(trained, way, workdir / 'export')}")
    if config.predict:
        inputs = read_inputs(
            config.predict, trained.input_shape, trained.table, config.skip_unreadable
        )
        answers = _answer(trained, inputs.features, routing, way, config.batch_size)
        rows = _rows(inputs.names, answers, trained)
        target = pathlib.Path(config.predict_to or workdir / "predicted.csv")
        write_whole(target, _as_csv(rows))
        run = trained.config
        title = f"{run.mode} on {run.data.dataset}, {routing} routing, {trained.policy}"
        print(f"{title}: {len(rows):,} examples\n\n{_as_text(rows)}\n")
        print("\n".join(line for line in (inputs.note, f"written: {target}") if line))
    return 0


def _answer(
    trained: Trained, features: np.ndarray, routing: str, way: Way | None, batch_size: int
) -> Answers:
    """What the mixture says about raw examples: run as it is served, where there is a way."""
    mixture, size = trained.mixture, len(features)
    unknown = np.full(size, -1, np.int32)
    split = Split(Examples(features, unknown), unknown)
    if not trained.routes():
        return answers_alone(predict_parts(mixture, split, batch_size, ["baseline"])["baseline"])
    if way is not None:
        return predict_routed(mixture, split, batch_size, way)
    ask = asking(mixture, split, trained.groups.names, trained.config.train.seed)
    return ask(routing, predict_dense(mixture, split, batch_size))


def _rows(names: Sequence[str], answers: Answers, trained: Trained) -> list[_Row]:
    """One row an example: its name, and who said what, how surely."""
    rows = []
    for n, (name, answer, expert) in enumerate(
        zip(names, answers.answer, answers.expert, strict=True)
    ):
        row = (name, trained.classes[answer], float(np.exp(answers.log_probs[n, answer])))
        asked = (None, None)  # nobody in particular
        if expert >= 0:
            gate_log_prob = answers.gate_log_probs[n, expert]
            asked = (trained.groups.names[expert], float(np.exp(gate_log_prob)))
        rows.append(row + asked)
    return rows


def _as_text(rows: Sequence[_Row]) -> str:
    table = format_table(_COLUMNS, rows[:_LINES])
    return table if len(rows) <= _LINES else f"{table}\nand {len(rows) - _LINES:,} more"


def _as_csv(rows: Sequence[_Row]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(name.replace(" ", "_") for name in _COLUMNS)
    for row in rows:
        writer.writerow(f"{v:.6f}" if isinstance(v, float) else v for v in row)
    return text.getvalue().encode(errors="surrogateescape")
