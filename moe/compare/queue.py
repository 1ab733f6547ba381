"""The queue of a comparison: makes the rows that are missing, one after the other."""

from __future__ import annotations

import dataclasses
import functools
import gc
import pathlib
from collections.abc import Sequence

import keras
import tensorflow as tf

from moe.compare.answers import build_networks, describe_networks, identity_of, make_record
from moe.compare.plan import Row, Run, all_runs
from moe.compare.record import Record, write_record
from moe.compare.rows import check_same_arm, check_same_test, read_rows
from moe.config.identity import identity_differences
from moe.config.run import Config
from moe.data.pipeline import Split
from moe.errors import UserError, warn
from moe.files import is_there
from moe.run import train
from moe.run_files import read_run
from moe.workspace import Workspace


class Queue:
    """Rows that are there, and the making of others.

    Attributes:
      workspace: the data, and the configuration that all rows share.
      folder: of the comparison: its runs are continued with it.
      results: the folder of its rows.
      records: the rows that are there, by arm and seed.
    """

    def __init__(self, workspace: Workspace, folder: pathlib.Path, results: pathlib.Path) -> None:
        """Reads the rows.

        Raises:
          UserError: one is damaged, or of another comparison.
        """
        self.workspace = workspace
        self.folder = folder
        self.results = results
        self.records = self._read()

    @functools.cached_property
    def test(self) -> Split:
        """The test split, opened when the first row needs it."""
        return self.workspace.open_test()

    def make(self, rows: Sequence[Row]) -> tuple[int, list[str]]:
        """Makes rows; one that fails costs no other.

        Returns:
          The exit code of the signal that stopped the queue, else 0; and the rows that failed.

        Raises:
          UserError: rows that are there do not belong together, or the disk is full.
        """
        failed = []
        for number, row in enumerate(rows, start=1):
            print(f"\n=== {row.label} ({number} of {len(rows)})", flush=True)
            self.take_others()
            if (row.name, row.seed) in self.records:
                print(f"{row.label}: was made by another queue meanwhile", flush=True)
                continue
            try:
                self._check_networks(row)
                code = self._train(row)
                if code:
                    return code, failed
                record = make_record(row, self.workspace, self.test)
            except (UserError, tf.errors.OpError) as error:
                warn(f"{row.label}: failed: {' '.join(str(error).split())[:500]}")
                failed.append(row.label)
                continue
            finally:
                forget_networks()
            write_record(self.results / f"{row.label}.json", record)
            self.records[row.name, row.seed] = record
            print(f"{row.label}: test {100 * record['test']['accuracy']:.2f} %", flush=True)
        return 0, failed

    def _read(self) -> dict[tuple[str, int], Record]:
        found = read_rows(self.results, self.workspace.config, self.workspace.digest())
        return {(record["arm"], record["seed"]): record for record in found}

    def take_others(self) -> None:
        """Adds what other queues made meanwhile.

        Raises:
          UserError: rows do not belong together, or were tested on other examples than those of the
            test split now.
        """
        self.records = self._read()
        if self.records:
            source = self.workspace.source
            now = {"copies": source.copies, **identity_of(self.test)}
            tested = {name: record["correct"] for name, record in self._labelled().items()}
            check_same_test({f"what --dataset={source.name} has now": now} | tested)

    def _labelled(self) -> dict[str, Record]:
        return {f"{name}-seed{seed}": record for (name, seed), record in self.records.items()}

    def _check_networks(self, row: Row) -> None:
        """Refuses, before it is trained, a row whose networks are others than those of its arm's
        rows.

        Raises:
          UserError: they are.
        """
        if any(name == row.name for name, _ in self.records):
            networks = build_networks(row, self.workspace)
            told = describe_networks(row, networks, self.workspace)
            del networks
            forget_networks()
            check_same_arm(self._labelled() | {row.label: told})

    def _train(self, row: Row) -> int:
        """Trains what is not finished of the row's runs; returns the exit code of the last one.

        Raises:
          UserError: in the place of one is another run.
        """
        for run in all_runs(row.runs):
            if is_there(run.folder / "results.json"):
                check_finished(run, self.workspace)
                continue
            print(f"--- {run.folder}", flush=True)
            code = train(run.config, queue=self.folder)
            forget_networks()
            if code:
                return code
        return 0


def check_finished(run: Run, workspace: Workspace) -> None:
    """Refuses a finished run that is another than the one planned for its folder.

    One trained by itself, with `--epochs=N` in place of a budget of as many, is the same; so is one
    that starts from runs of the same names in another place.

    Raises:
      UserError: it is another.
    """
    stored, planned = read_run(run.folder), run.config
    found = stored.config
    if found.train.budget is None and found.train.steps is None:
        length = {"budget": f"epochs:{found.train.epochs}", "epochs": planned.train.epochs}
        found = dataclasses.replace(found, train=dataclasses.replace(found.train, **length))
    differences = identity_differences(_portable(found), _portable(planned))
    if differences:
        raise UserError(
            f"{run.folder}: holds another run: {', '.join(differences)}; use another --workdir, "
            "or the flags of that run."
        )
    workspace.check_stored(stored)


def _portable(config: Config) -> Config:
    """The same wherever the runs are that it starts from."""
    sources = tuple(pathlib.Path(source).name for source in config.train.init_from)
    return dataclasses.replace(config, train=dataclasses.replace(config.train, init_from=sources))


def forget_networks() -> None:
    """Frees the networks and data of a run; what TensorFlow keeps of its graphs, some 30 MB a
    stage, stays until the process ends.
    """
    keras.backend.clear_session()
    gc.collect()
