"""What comparisons, benchmarks and evaluations are asked for."""

from __future__ import annotations

import dataclasses
import os
import re

from moe.config import choices
from moe.config.checks import LARGEST, check_sizes, fail, one_of, positive
from moe.config.run import Config
from moe.errors import UserError
from moe.sweep_axes import check_sweep, parse_sweep

MOST_SEEDS = 1_000
"""Of a comparison."""
_SEEDS_ABOVE = 1_000 * MOST_SEEDS
"""That are kept free above a comparison's first one: the baselines of its averages take some."""
_LONGEST_WINDOW = 3_600
"""Seconds."""


@dataclasses.dataclass(frozen=True)
class CompareConfig:
    """What --mode=compare puts side by side.

    `run` is what all arms have in common; its mode, routing and seed are those of the first arm.
    """

    run: Config = dataclasses.field(default_factory=lambda: Config(mode="compare"))
    seeds: int = 3
    arms: tuple[str, ...] = ()
    results: str | None = None

    def __post_init__(self) -> None:
        check_sizes(self)
        positive("seeds", self.seeds)
        if self.seeds > MOST_SEEDS:
            fail("seeds", self.seeds, f"at most {MOST_SEEDS}")
        train = self.run.train
        if train.seed > LARGEST - _SEEDS_ABOVE:
            fail("seed", train.seed, f"at most {LARGEST - _SEEDS_ABOVE} with --mode=compare")
        for name in ("init_from", "skip_stages"):
            if getattr(train, name):
                raise UserError(f"--{name}: every arm of --mode=compare starts from scratch.")
        if (self.run.data.groups or "").startswith("auto:"):
            raise UserError(
                f"--groups={self.run.data.groups}: find the groups with another --mode first, and "
                "compare with the file that it writes."
            )
        if self.run.loss.mixture_loss == "expected":
            raise UserError(
                "--mixture_loss=expected: --mode=compare also routes to one expert, where that "
                "gives the gate no gradient; use --mixture_loss=likelihood."
            )


@dataclasses.dataclass(frozen=True)
class BenchmarkConfig:
    """What --mode=benchmark measures.

    The fields of `run` that name networks, batch size, routing and device are what a sweep starts
    from; data and losses are of no account.
    """

    run: Config = dataclasses.field(default_factory=lambda: Config(mode="benchmark"))
    suite: tuple[str, ...] = ()
    sweep: tuple[str, ...] = ()
    rounds: int = 41
    window_seconds: float = 0.4

    def __post_init__(self) -> None:
        check_sizes(self)
        for name in self.suite:
            one_of("suite", name, choices.SUITES)
        if self.rounds < 7:
            fail("rounds", self.rounds, "at least 7")
        if not 0 < self.window_seconds <= _LONGEST_WINDOW:
            fail("window_seconds", self.window_seconds, f"above 0 and at most {_LONGEST_WINDOW}")
        if os.environ.get("TF_CONFIG"):
            raise UserError("TF_CONFIG: --mode=benchmark measures one device; unset it.")
        runtime, routing = self.run.runtime, self.run.model.routing
        if runtime.cpu_replicas > 1 or (runtime.gpus or 0) > 1:
            raise UserError(
                "--mode=benchmark measures one device: leave out --cpu_replicas, --gpus."
            )
        if routing not in ("soft", "hard"):
            fail("routing", routing, "soft or hard with --mode=benchmark, which forces the load")
        if self.sweep:
            check_sweep(parse_sweep(self.sweep), self.dispatch, bool(runtime.jit_compile))

    @property
    def dispatch(self) -> str:
        """How a sweep runs the experts where no axis says so."""
        return "soft" if self.run.model.routing == "soft" else "routed"


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """An evaluation of finished runs."""

    workdir: str | None = None
    compare: tuple[str, ...] = ()
    routing: tuple[str, ...] = ()
    gate_threshold: float = 0.0
    top_k: int | None = None
    tta: str | None = None
    eval_split: str = "test"
    data_dir: str | None = None
    precision: str | None = None
    batch_size: int = 512
    report: bool | None = None
    export: bool = False
    predict: str | None = None
    predict_to: str | None = None
    skip_unreadable: bool = False

    def __post_init__(self) -> None:
        check_sizes(self)
        if bool(self.workdir) == bool(self.compare):
            raise UserError("give --workdir=RUN to evaluate a run, or --compare=RUN_A,RUN_B.")
        if self.compare:
            self._check_comparison()
        for name in self.routing:
            if name not in choices.EVALUATION_ROUTINGS and not re.fullmatch(r"expert:.+", name):
                raise UserError(
                    f"--routing={name}: must be among {', '.join(choices.EVALUATION_ROUTINGS)}, "
                    "expert:NAME."
                )
        one_of("eval_split", self.eval_split, choices.SPLITS)
        if self.precision is not None:
            one_of("precision", self.precision, choices.PRECISIONS)
        if self.tta is not None:
            one_of("tta", self.tta, choices.TEST_TIME_AUGMENTATIONS)
        positive("batch_size", self.batch_size)
        positive("top_k", self.top_k)
        if not 0 <= self.gate_threshold <= 1:
            fail("gate_threshold", self.gate_threshold, "from 0 to 1")
        if self.predict_to is not None and self.predict is None:
            raise UserError(f"--predict_to={self.predict_to}: is for --predict.")
        if self.skip_unreadable and self.predict is None:
            raise UserError("--skip_unreadable: is for --predict.")
        if self.predict is not None and not self.predict:
            fail("predict", self.predict, "a file, or a pattern such as 'photos/*.png'")
        if self.export or self.predict:
            self._check_use()

    def _check_use(self) -> None:
        """What --export and --predict cannot do, for they have one routing and no labels."""
        asked = "--export" if self.export else "--predict"
        if len(self.routing) > 1:
            raise UserError(f"{asked}: takes one --routing, not {', '.join(self.routing)}.")
        for name in self.routing:
            if self.export and name not in choices.ROUTINGS:
                raise UserError(
                    f"--routing={name}: an export routes by its gate; use one of "
                    f"{', '.join(choices.ROUTINGS)}."
                )
            if name in choices.LABEL_ROUTINGS:
                raise UserError(f"--routing={name}: needs labels, which --predict has none of.")
        if self.eval_split != "test":
            raise UserError(f"{asked}: reads no split of the data; leave out --eval_split.")
        if self.report:
            raise UserError(f"{asked}: evaluates nothing; leave out --report.")
        if self.export and self.precision not in (None, "float32"):
            fail("precision", self.precision, "float32 with --export, which always is")

    def _check_comparison(self) -> None:
        given = f"--compare={','.join(self.compare)}"
        if len(self.compare) < 2 or not all(self.compare):
            raise UserError(f"{given}: name at least two runs: RUN_A,RUN_B.")
        if len({os.path.realpath(run) for run in self.compare}) < len(self.compare):
            raise UserError(f"{given}: names a run twice.")
        others = [f for f in dataclasses.fields(self) if f.name not in ("workdir", "compare")]
        ignored = [f"--{f.name}" for f in others if getattr(self, f.name) != f.default]
        if ignored:
            raise UserError(
                f"--compare reads what the runs themselves wrote; give {', '.join(ignored)} with "
                "--workdir."
            )
