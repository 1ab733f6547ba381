"""`--mode=benchmark`: throughput per step, way against way."""

from __future__ import annotations

import dataclasses
import itertools
import math
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
from moe.benchmark.suites import COST, FLOPS, INPUT, SUITES, Group, Question, same_twice
from moe.benchmark.sweep import sweep_group
from moe.benchmark.training import PRODUCT
from moe.config.sections import RuntimeConfig
from moe.config.tools import BenchmarkConfig
from moe.evaluate.tables import format_table
from moe.files import choose_workdir, make_workdir, write_json
from moe.provenance import provenance
from moe.sweep_axes import parse_sweep
from moe.train.devices import choose_strategy, on_one_device
from moe.train.precision import choose_precision


def benchmark(config: BenchmarkConfig) -> int:
    """Measures, prints tables and writes `benchmark.json`.

    Returns:
      The exit code.

    Raises:
      UserError: there is no GPU and `--require_gpus`, a backbone cannot be built, or the folder
        cannot be made.
    """
    runtime = config.run.runtime
    choose_strategy(one_device(runtime))
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
            found |= {"resolution": resolution, "bias": bias_of(ratios[0][1])}
        new = [_answer(question, ratio, resolution, group.title) for question, ratio in ratios]
        rows += _rows(group, arms, timings, new)
        answers += new
        _print_group(rows[-len(arms) :], new)
        found |= {"rows": rows, "answers": answers, "verdicts": verdicts(rows, answers)}
        write_json(workdir / "benchmark.json", found)
    print(f"\nTwo runs of the same thing can be told apart here by {100 * resolution:.1f} %.")
    if found["bias"]:
        print(f"The interval of that pair leaves out 1: a bias of {100 * found['bias']:.1f} %.")
    for verdict in found["verdicts"]:
        print(verdict["sentence"])
    figure = write_growth_figure(rows, workdir / "figures" / "growth.png")
    print(f"written: {workdir / 'benchmark.json'}" + (f", {figure}" if figure else ""))
    return 0


def one_device(runtime: RuntimeConfig) -> RuntimeConfig:
    """`runtime` on one GPU where there is one or one was asked for, else on the CPU."""
    gpus = runtime.gpus
    if gpus is None:
        gpus = 1 if runtime.require_gpus else on_one_device(runtime).gpus
    return dataclasses.replace(runtime, gpus=gpus)


def _groups(config: BenchmarkConfig, policy: str) -> Iterator[Group]:
    """A/A first; then the sweep, or the suites that were asked for."""
    axes = parse_sweep(config.sweep)
    sweep = sweep_group(_base_case(config, policy), axes) if axes else None
    suites = config.suite or (() if axes else tuple(SUITES))

    def one_after_the_other() -> Iterator[Group]:
        yield same_twice(policy)
        if sweep:
            yield sweep
        for suite in suites:
            yield from SUITES[suite](policy)

    return one_after_the_other()


def _base_case(config: BenchmarkConfig, policy: str) -> Case:
    """What a sweep does not vary is as the ordinary flags say."""
    run, given = config.run, {}
    model = run.model
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
    return Case(baseline=baseline, precision=policy, dispatch=config.dispatch, **given)


def _ratio(question: Question, arms: Sequence[Arm], timings: Mapping[str, Timing]) -> Ratio:
    by_name = {arm.name: arm for arm in arms}
    arm, peer = by_name[question.arm], by_name[question.peer]
    if question.quantity == FLOPS:
        return flops_ratio(arm, peer, timings)
    if question.quantity in (COST, INPUT):
        return speed_ratio(peer, arm, timings)
    return speed_ratio(arm, peer, timings)


def _half_width(ratio: Ratio) -> float:
    """How far the interval of two equal things reaches from 1."""
    return max(abs(ratio.low - 1), abs(ratio.high - 1))


def bias_of(ratio: Ratio) -> float | None:
    """How much faster the first of two equal things was; None where its interval contains 1."""
    return None if ratio.low <= 1 <= ratio.high else ratio.median - 1


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
    products = {arm.facts["precision"]: arm for arm in arms if arm.name.startswith(PRODUCT)}
    shares = {a["peer"]: a["ratio"] for a in answers if a["quantity"] == INPUT}
    resolved = {a["arm"]: a["resolved"] for a in reversed(answers)}
    return [
        {
            "group": group.title,
            **row(arm, products.get(arm.facts.get("precision")), timings),
            "input_share": shares.get(arm.name),
            "resolved": resolved.get(arm.name),
        }
        for arm in arms
    ]


def _print_group(rows: Sequence[Mapping[str, Any]], answers: Sequence[Mapping[str, Any]]) -> None:
    header = ["way", "examples/s", "step ms", "p95", "GFLOP/s", "of matmul", "input", "compile s"]
    header += ["load", "dropped"]
    table = [
        [
            line["name"],
            f"{line['examples_per_second']:,.0f}",
            f"{line['step_ms_p50']:.2f}",
            f"{line['step_ms_p95']:.2f}",
            _number(line["gflops"], 0),
            _number(line["fraction_of_matmul"], 2),
            _number(line["input_share"], 2),
            f"{line['compile_seconds']:.1f}",
            load_in_words(line.get("load", [])),
            _number(line.get("dropped") or None, 2),
        ]
        for line in rows
    ]
    print(format_table(header, table))
    for answer in answers:
        print(f"  {_sentence(answer)}")


def _number(value: float | None, digits: int) -> str | None:
    return None if value is None else f"{value:.{digits}f}"


def load_in_words(load: Sequence[float]) -> str | None:
    """The share of each expert; experts in a row that get as much are told together."""
    runs = [(share, len([*same])) for share, same in itertools.groupby(f"{x:.2f}" for x in load)]
    return " ".join(share if n == 1 else f"{n} x {share}" for share, n in runs) or None


def _sentence(answer: Mapping[str, Any]) -> str:
    figure = f"{answer['ratio']:.3f} [{answer['low']:.3f}, {answer['high']:.3f}]"
    doubt = "" if answer["resolved"] else "  (not resolved)"
    return f"{answer['question']}: {answer['quantity']} {figure}{doubt}"


def verdicts(
    rows: Sequence[Mapping[str, Any]], answers: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """From which batch size on routing pays, for each group of the crossover suite.

    Args:
      rows, answers: of `benchmark.json`.
    """
    found = []
    asked = [a for a in answers if a["group"].startswith(CROSSOVER_TITLE)]
    for title in dict.fromkeys(a["group"] for a in asked):
        cases = {line["name"]: line for line in rows if line["group"] == title}
        mine = [a for a in asked if a["group"] == title]
        case = cases[mine[0]["arm"]]
        pays = {cases[a["arm"]]["batch_size"]: a["resolved"] and a["low"] > 1 for a in mine}
        facts = {name: case[name] for name in ("phase", "expert", "expert_macs", "num_experts")}
        sentence = (
            f"{case['phase']}, {case['num_experts']} experts {case['expert']} of "
            f"{case['expert_macs'] / 1e6:.1f} M MACs: routing pays {where_it_pays(pays)}"
        )
        found.append({**facts, "sentence": sentence})
    return found


def where_it_pays(pays: Mapping[int, bool]) -> str:
    """In words.

    Args:
      pays: whether it does, by batch size, from the smallest up.
    """
    sizes = [size for size, does in pays.items() if does]
    first, last = min(pays), max(pays)
    if not sizes:
        return f"nowhere up to batch {last}"
    if len(sizes) == len(pays):
        return f"at every size measured, batch {first} and up"
    if all(does for size, does in pays.items() if size >= sizes[0]):
        return f"from batch {sizes[0]} on"
    return f"at batch {', '.join(map(str, sizes))} alone, of those from {first} to {last}"
