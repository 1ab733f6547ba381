"""What a run cost: time, parameters, MACs, speed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moe.config.choices import PART_MODES
from moe.models import cost
from moe.models.routers import make_router
from moe.train.budget import experts_learning
from moe.train.context import Context
from moe.train.meter import LONG_SECONDS, measure_ceiling


def accounts(context: Context, finished: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The entries of `results.json` about cost; also notes the MACs of each stage in its record.

    Args:
      context: of the run that has ended.
      finished: one record a stage, of `Progress`.
    """
    mixture, model = context.mixture, context.config.model
    router = make_router(model.routing, model.top_k)
    flops = 0
    for stage in finished:
        running = experts_learning(context.config, mixture, stage["kind"])
        what = (mixture, stage["kind"], stage["parts"], running)
        stage["macs"] = stage["examples"] * cost.stage_macs(*what)
        flops += stage["examples"] * cost.stage_flops(*what)
    costs = cost.part_costs(mixture)
    active = cost.active_cost(mixture, router.evaluate.running(mixture.num_experts))
    if context.config.mode in PART_MODES:  # nothing else was trained; one network answers
        trained = {part for stage in finished for part in stage["parts"]}
        costs = {part: found for part, found in costs.items() if part in trained}
        active = cost.cost_alone(mixture, trained)
    return {
        "epochs": sum(stage["epochs"] for stage in finished),
        "stages": list(finished),
        "train_seconds": sum(stage["seconds"] for stage in finished),
        "compile_seconds": context.meter.compile_seconds,
        "prepare_seconds": context.meter.prepare_seconds,
        "startup_seconds": context.meter.startup_seconds(),
        "params": {
            "total": sum(c.parameters for c in costs.values()),
            "active": active.parameters,
        },
        "macs_per_example": {
            "total": mixture.views * sum(c.macs for c in costs.values()),
            "active": active.macs,
        },
        "macs_spent": sum(stage["macs"] for stage in finished),
        **{
            name: sum(stage[name] for stage in finished)
            for name in ("skipped", "overflows", "rollbacks")
        },
        "throughput": _throughput(context, finished, flops),
    }


def _throughput(
    context: Context, finished: Sequence[Mapping[str, Any]], flops: int
) -> dict[str, float | None]:
    meter = context.meter
    seconds = sum(stage["seconds"] for stage in finished)
    examples = sum(stage["examples"] for stage in finished)
    # Several replicas would have to be measured at once.
    comparable = seconds >= LONG_SECONDS and context.strategy.num_replicas_in_sync == 1
    return {
        "examples_per_second": examples / seconds if seconds else None,
        "step_ms_p50": meter.step_milliseconds(50),
        "step_ms_p95": meter.step_milliseconds(95),
        "input_share": meter.input_share,
        "gflops": flops / seconds / 1e9 if seconds else None,
        "fraction_of_matmul": flops / seconds / measure_ceiling(context.policy)
        if comparable
        else None,
    }
