"""Which runs the rows of a comparison take.

A **row** is an arm with one seed. It needs one run or several; a run that several rows need is
trained once: a `separate` mixture routes hard or soft with the same weights, and where the budget
is epochs, its baseline is the baseline arm's and both `staged` mixtures start from the same parts.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from moe.compare.arms import ARMS, MEMBER_STRIDE, TUNING_SEED, Arm
from moe.config.run import Config
from moe.config.specs import read_budget
from moe.train.budget import TUNING_SHARE
from moe.train.stages import TUNING_RATE


class Run(NamedTuple):
    """One training.

    Attributes:
      folder: of the run.
      config: of the run, fully resolved.
      after: the runs that it starts from.
    """

    folder: pathlib.Path
    config: Config
    after: tuple[Run, ...] = ()


class Row(NamedTuple):
    """An arm with one seed.

    Attributes:
      name: of the arm.
      arm: the same.
      seed: of all that is drawn.
      runs: whose networks answer: one, or those that are averaged.
    """

    name: str
    arm: Arm
    seed: int
    runs: tuple[Run, ...]

    @property
    def label(self) -> str:
        """What its file is called, without the ending."""
        return f"{self.name}-seed{self.seed}"


class Setting(NamedTuple):
    """What all rows have in common.

    Attributes:
      base: the configuration of every run but for mode, routing, networks and seed; fully resolved.
      folder: where the runs are.
      wide: by arm, the name of the backbone at the width that makes it as large as the mixture.
      members: by arm, how many baselines are averaged.
      parts: names of the stages that come before the joint one in `staged`.
    """

    base: Config
    folder: pathlib.Path
    wide: Mapping[str, str]
    members: Mapping[str, int]
    parts: tuple[str, ...]


def make_row(name: str, seed: int, setting: Setting) -> Row:
    """The row of the arm called `name`, and its runs.

    Raises:
      UserError: flags do not fit the arm.
    """
    arm, plan = ARMS[name], _Plan(setting, seed)
    if arm.kind == "mixture":
        runs = (plan.mixture(arm),)
    elif arm.kind == "wide":
        train = plan.tuned if arm.mode == "staged" else plan.network
        runs = (train(name, setting.wide[name], {"trunk": 0}),)
    elif arm.kind == "average":
        count = setting.members[name]
        runs = tuple(
            _Plan(setting, seed + MEMBER_STRIDE * number).member(name, count)
            for number in range(count)
        )
    else:
        runs = (plan.baseline(),)
    return Row(name, arm, seed, runs)


def all_runs(runs: Iterable[Run]) -> list[Run]:
    """These runs and all that they start from, each once and after those it needs."""
    found: dict[pathlib.Path, Run] = {}
    for run in runs:
        found |= {other.folder: other for other in (*all_runs(run.after), run)}
    return list(found.values())


class _Plan(NamedTuple):
    """The runs of one seed."""

    setting: Setting
    seed: int

    def baseline(self) -> Run:
        return self.network("baseline", self.setting.base.model.baseline_backbone, {})

    def member(self, name: str, count: int) -> Run:
        """One of `count` baselines that are averaged: of epochs each has as many as a baseline by
        itself, of seconds and MACs its share.
        """
        if self._shares():
            return self.baseline()
        unit, amount = read_budget(self.setting.base.train.budget)
        network = self.setting.base.model.baseline_backbone
        return self.network(f"{name}-member", network, {}, budget=f"{unit}:{amount / count!r}")

    def network(
        self,
        name: str,
        backbone: str,
        model: Mapping[str, object],
        after: Run | None = None,
        **training: object,
    ) -> Run:
        """One network by itself, with these flags of the model and of the training."""
        alone = {"baseline": True, "baseline_backbone": backbone, "routing": "soft"}
        return self._run(name, "baseline", alone | {"balance_bias": 0.0} | model, after, **training)

    def tuned(self, name: str, backbone: str, model: Mapping[str, object]) -> Run:
        """The same in two runs: the second is to the first what the joint stage of `staged` is to
        the stages before it.
        """
        train = self.setting.base.train
        unit, amount = read_budget(train.budget)
        rates = ["learning_rate", *(["muon_rate"] if train.optimizer == "muon" else [])]
        first = self.network(
            f"{name}-first", backbone, model, budget=f"{unit}:{amount * (1 - TUNING_SHARE)!r}"
        )
        return self.network(
            name,
            backbone,
            model,
            after=first,
            init_from=(f"{first.folder}:baseline",),
            budget=f"{unit}:{amount * TUNING_SHARE!r}",
            seed=self.seed + TUNING_SEED,
            **{rate: TUNING_RATE * getattr(train, rate) for rate in rates},
        )

    def mixture(self, arm: Arm) -> Run:
        if arm.mode == "separate":
            return self._separate()
        model = {"routing": arm.routing}
        if arm.routing != "hard":
            model["balance_bias"] = 0.0  # which steers a choice
        name = f"{arm.mode}-{arm.routing}"
        if arm.mode == "joint" or not self._shares():
            return self._run(name, arm.mode, model)
        parts = self._parts()
        reuse = {"init_from": (str(parts.folder),), "skip_stages": self.setting.parts}
        return self._run(name, arm.mode, model, parts, **reuse)

    def _separate(self) -> Run:
        """Both routings have the same weights: the combiners learn behind the gate's favourite."""
        if not self._shares() or "baseline" not in self.setting.parts:
            return self._run("separate", "separate", {"routing": "hard"})
        baseline = self.baseline()
        trained = ("trunk", "baseline") if self.setting.base.model.trunk else ("baseline",)
        sources = tuple(f"{baseline.folder}:{part}" for part in trained)
        reuse = {"init_from": sources, "skip_stages": ("baseline",)}
        return self._run("separate", "separate", {"routing": "hard"}, baseline, **reuse)

    def _parts(self) -> Run:
        """What `staged` does before its joint stage: the same for both routings."""
        epochs = read_budget(self.setting.base.train.budget).amount * (1 - TUNING_SHARE)
        return self._run("parts", "separate", {"routing": "hard"}, budget=f"epochs:{epochs!r}")

    def _shares(self) -> bool:
        """Whether a part is trained as long for one arm as for another."""
        return read_budget(self.setting.base.train.budget).unit == "epochs"

    def _run(
        self,
        name: str,
        mode: str,
        model: Mapping[str, object],
        after: Run | None = None,
        **training: object,
    ) -> Run:
        base = self.setting.base
        folder = self.setting.folder / f"{name}-seed{self.seed}"
        config = dataclasses.replace(
            base,
            mode=mode,
            model=dataclasses.replace(base.model, top_k=1, **model),
            train=dataclasses.replace(base.train, **({"seed": self.seed} | training)),
            runtime=dataclasses.replace(base.runtime, workdir=str(folder)),
        )
        return Run(folder, config, (after,) if after else ())
