"""`--mode=benchmark`: throughput per step, way against way."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from moe.benchmark.cases import CROSSOVER_TITLE, Case
from moe.benchmark.figure import write_growth_figure
from moe.benchmark.measure import (
    Arm,
    Ratio,
    Timing,
    flops_ratio,
    row,
    speed_ratio,
    take_turns,
)
from moe.benchmark.suites import COST, FLOPS, SUITES, Group, Question, same_twice
from moe.benchmark.sweep import parse_sweep, sweep_group
from moe.config import BenchmarkConfig, Config
from moe.errors import UserError
from moe.evaluate.tables import format_table
from moe.files import choose_workdir, make_workdir, write_json
from moe.provenance import provenance
from moe.train.devices import choose_strategy, on_one_device
from moe.train.precision import choose_precision


def benchmark(config: BenchmarkConfig) -> int:
    """Measures, prints tables and writes `benchmark.json`.

    Returns:
      The exit code.

    Raises:
      UserError: a sweep names what is not there, or the folder cannot be made.
    """
    runtime = config.run.runtime
    if runtime.cpu_replicas > 1 or (runtime.gpus or 0) > 1:
        raise UserError("--mode=benchmark measures one device: leave out --cpu_replicas, --gpus.")
    choose_strategy(on_one_device(runtime))
    policy = choose_precision(runtime.precision).policy
    groups = _groups(config, policy)
    workdir = choose_workdir(runtime.workdir, "benchmark")
    make_workdir(workdir)
    found: dict[str, Any] = {
        **provenance(),
        "precision": policy,
        "data": "generated CIFAR-10-shaped images",
        "rounds": config.rounds,
        "window_seconds": config.window_seconds,
    }
    rows: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    resolution = math.inf  # until the A/A pair, the first group, has been measured
    for group in groups:
        print(f"\n{group.title} …", flush=True)
        arms = group.all_arms()
        timings = take_turns(arms, config.rounds, config.window_seconds)
        ratios = [(question, _ratio(question, arms, timings)) for question in group.questions]
        if math.isinf(resolution):
            resolution = _half_width(ratios[0][1])
        new = [_answer(question, ratio, resolution, group.title) for question, ratio in ratios]
        rows += _rows(group, arms, timings, new)
        answers += new
        _print_group(rows[-len(arms) :], new)
        found |= {"resolution": resolution, "rows": rows, "answers": answers}
        write_json(workdir / "benchmark.json", found)
    print(f"\nTwo runs of the same thing can be told apart here by {100 * resolution:.1f} %.")
    for line in _verdicts(answers):
        print(line)
    figure = write_growth_figure(rows, workdir / "figures" / "growth.png")
    print(f"written: {workdir / 'benchmark.json'}" + (f", {figure}" if figure else ""))
    return 0


def _groups(config: BenchmarkConfig, policy: str) -> Iterator[Group]:
    """A/A first; then the sweep, or the suites that were asked for."""
    axes = parse_sweep(config.sweep)
    sweep = sweep_group(_base_case(config.run, policy), axes) if axes else None
    suites = config.suite or (() if axes else tuple(SUITES))

    def one_after_the_other() -> Iterator[Group]:
        yield same_twice(policy)
        if sweep:
            yield sweep
        for suite in suites:
            yield from SUITES[suite](policy)

    return one_after_the_other()


def _base_case(run: Config, policy: str) -> Case:
    """What a sweep does not vary is as the ordinary flags say."""
    model, given = run.model, {}
    for field, value in (
        ("gate", model.gate_backbone),
        ("expert", model.expert_backbone),
        ("batch_size", run.train.batch_size),
        ("steps_per_loop", run.runtime.steps_per_loop),
        ("jit_compile", run.runtime.jit_compile),
    ):
        if value is not None:
            given[field] = value
    baseline = (model.baseline_backbone or Case.baseline) if model.baseline else None
    dispatch = "soft" if model.routing == "soft" else "routed"
    return Case(baseline=baseline, precision=policy, dispatch=dispatch, **given)


def _ratio(question: Question, arms: Sequence[Arm], timings: Mapping[str, Timing]) -> Ratio:
    by_name = {arm.name: arm for arm in arms}
    arm, peer = by_name[question.arm], by_name[question.peer]
    if question.quantity == FLOPS:
        return flops_ratio(arm, peer, timings)
    if question.quantity == COST:
        return speed_ratio(peer, arm, timings)
    return speed_ratio(arm, peer, timings)


def _half_width(ratio: Ratio) -> float:
    """How far the interval of two equal things reaches from 1."""
    return max(abs(ratio.low - 1), abs(ratio.high - 1))


def _answer(question: Question, ratio: Ratio, resolution: float, title: str) -> dict[str, Any]:
    return {
        "question": question.text,
        "group": title,
        "arm": question.arm,
        "peer": question.peer,
        "quantity": question.quantity,
        "ratio": ratio.median,
        "low": ratio.low,
        "high": ratio.high,
        "resolved": ratio.resolved(resolution),
    }


def _rows(
    group: Group,
    arms: Sequence[Arm],
    timings: Mapping[str, Timing],
    answers: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    product = arms[-1]
    peak = product.flops / statistics.median(timings[product.name].seconds)
    rows = []
    for arm in arms:
        own = [a for a in answers if a["arm"] == arm.name]
        shares = [a["ratio"] for a in answers if a["peer"] == arm.name and "pipeline" in a["arm"]]
        rows.append(
            {
                "group": group.title,
                **row(arm, timings[arm.name], peak),
                "input_share": shares[0] if shares else None,
                "resolved": own[0]["resolved"] if own else None,
            }
        )
    return rows


def _print_group(rows: Sequence[Mapping[str, Any]], answers: Sequence[Mapping[str, Any]]) -> None:
    header = ["way", "examples/s", "step ms", "p95", "GFLOP/s", "of matmul", "compile s", "load"]
    table = [
        [
            line["name"],
            f"{line['examples_per_second']:,.0f}",
            f"{line['step_ms_p50']:.2f}",
            f"{line['step_ms_p95']:.2f}",
            f"{line['gflops']:.0f}" if line["gflops"] else None,
            f"{line['fraction_of_matmul']:.2f}" if line["fraction_of_matmul"] else None,
            f"{line['compile_seconds']:.1f}",
            " ".join(f"{share:.2f}" for share in line.get("load", [])[:8]) or None,
        ]
        for line in rows
    ]
    print(format_table(header, table))
    for answer in answers:
        print(f"  {_sentence(answer)}")


def _sentence(answer: Mapping[str, Any]) -> str:
    figure = f"{answer['ratio']:.3f} [{answer['low']:.3f}, {answer['high']:.3f}]"
    doubt = "" if answer["resolved"] else "  (not resolved)"
    return f"{answer['question']}: {answer['quantity']} {figure}{doubt}"


def _verdicts(answers: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """From which batch size on routing pays, for each expert of the crossover suite."""
    asked = [a for a in answers if a["group"].startswith(CROSSOVER_TITLE)]
    for title in dict.fromkeys(a["group"] for a in asked):
        mine = [a for a in asked if a["group"] == title]
        pays = [a["arm"] for a in mine if a["resolved"] and a["low"] > 1]
        sizes = ", ".join(arm.removeprefix("routed, ") for arm in pays)
        yield f"{title}: " + (f"yes, at batch size {sizes}." if pays else "not where measured.")
