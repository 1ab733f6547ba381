"""`report.html`: one file that holds everything, for any browser, without a network."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jinja2

from moe.evaluate.present import boost_sentence, part_rows
from moe.evaluate.tables import percent
from moe.report.drawing import Picture

Row = tuple[str | None, ...]
# Title, key in `routing_metrics`, style, meaning.
_SPREAD = (
    ("largest load over mean, less 1", "max_violation", "{:.3f}", "0: all alike (MaxVio)"),
    ("deviation of the load over mean", "load_cv", "{:.3f}", "0: all alike"),
    ("dead experts", "dead_experts", "{:.1%}", "share without an example"),
    ("effective experts", "effective_experts", "{:.2f}", "exp of the mean gate's entropy"),
    ("entropy", "entropy", "{:.3f}", "of one example's gate, nats; 0: decided"),
    ("routing information", "routing_information", "{:.3f}", "balanced and decided: high"),
    ("confidence", "confidence", "{:.3f}", "mean of the highest gate probability"),
    ("I(E;Y)", "mutual_information", "{:.3f}", "what the expert says of the class, nats"),
    ("the same, normalised", "normalized_mutual_information", "{:.3f}", "from 0 to 1"),
    ("H(Y|E)", "dispatch_entropy", "{:.3f}", "classes of one expert, nats; 0: one class"),
    ("purity", "purity", "{:.3f}", "share of each expert's most frequent class"),
    (
        "NMI with the groups",
        "group_normalized_mutual_information",
        "{:.3f}",
        "1: experts are the known groups",
    ),
)


class Table(NamedTuple):
    """A table of strings; None is printed as a dash.

    Attributes:
      title: above it.
      header: names of the columns.
      rows: as long as the header each.
      note: below it, or "".
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Row]
    note: str = ""


def page(
    evaluation: Mapping[str, Any],
    results: Mapping[str, Any] | None,
    drawn: Sequence[tuple[Picture, bytes]],
) -> str:
    """The page of a run.

    Args:
      evaluation: `evaluation.json`.
      results: `results.json`, or None.
      drawn: the figures and their PNGs.
    """
    return render(
        f"{evaluation['mode']} on {evaluation['dataset']}",
        evaluation["note"],
        list(_facts(evaluation, results)),
        [*_tables(evaluation), *_health(results)],
        drawn,
    )


def render(
    title: str,
    note: str,
    facts: Sequence[tuple[str, str]],
    tables: Sequence[Table],
    drawn: Sequence[tuple[Picture, bytes]],
    findings: Sequence[str] = (),
) -> str:
    """A page of our kind.

    Args:
      title: of the page.
      note: what a reader must know first, or "".
      facts: names and values.
      tables: in order.
      drawn: the figures and their PNGs.
      findings: sentences that stand before everything else.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("moe.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(
        title=title,
        note=note,
        findings=findings,
        facts=facts,
        tables=tables,
        pictures=[
            {
                "title": picture.title,
                "alt": picture.alt,
                "reading": picture.reading,
                "data": base64.b64encode(image).decode(),
            }
            for picture, image in drawn
        ],
    )


def _facts(
    evaluation: Mapping[str, Any], results: Mapping[str, Any] | None
) -> Iterator[tuple[str, str]]:
    yield "data set", evaluation["dataset"]
    yield "evaluated", f"{evaluation['examples']:,} examples of the {evaluation['split']} split"
    yield "mode", evaluation["mode"]
    if evaluation["routings"]:
        yield "routing of the run", evaluation["routing"]
    if evaluation.get("tta", "none") != "none":
        yield "test-time augmentation", evaluation["tta"]
    yield "seed", str(evaluation["seed"])
    yield "precision", evaluation["precision"]
    yield "device", evaluation["device"]
    if results is not None:
        yield "trained by", results["command"]
        where = f"{results['device']}, {results['precision']}"
        yield "training", f"{results['train_seconds']:,.0f} s on {where}"
        if "clock_seconds" in results:
            yield "from data to answers", f"{results['clock_seconds']:,.0f} s"
        yield "MACs spent", f"{results['macs_spent']:.3g}"
    if results is None or results["command"] != evaluation["command"]:
        yield "evaluated by", evaluation["command"]
    yield "versions", ", ".join(f"{k} {v}" for k, v in evaluation["versions"].items())
    yield "revision", evaluation["revision"] or "unknown"


def _tables(evaluation: Mapping[str, Any]) -> Iterator[Table]:
    rows = part_rows(evaluation["parts"])
    routings = evaluation["routings"]
    rows += [(f"mixture, {name}", percent(found["accuracy"])) for name, found in routings.items()]
    yield Table("Accuracy", ("network", "accuracy %"), rows)
    if not routings:
        yield _networks(evaluation)
        return
    first, found = next(iter(routings.items()))
    yield Table(
        "Answers",
        ("routing", "NLL", "ECE", "macro-F1", "oracle gap", "best gap"),
        [_answers(name, under) for name, under in routings.items()],
        "Lower is better of NLL and ECE. Oracle gap: the points of accuracy that are missing to "
        "a gate that always knows the group; best gap: those to an expert that is right, for each "
        "example that has one, which no gate that asks one expert can beat.",
    )
    yield _experts(evaluation, first)
    spread = found["routing_metrics"]
    if spread is not None:
        rows = [
            (title, shape.format(spread[key]), meaning)
            for title, key, shape, meaning in _SPREAD
            if key in spread
        ]
        yield Table(f"Routing, {first}", ("number", "value", "meaning"), rows)
    yield _networks(evaluation)


def _answers(name: str, found: Mapping[str, Any]) -> Row:
    gaps = (found["oracle_gap"].get(oracle) for oracle in ("oracle", "oracle_best"))
    return (
        name,
        f"{found['nll']:.4f}",
        f"{found['ece']:.4f}",
        f"{found['macro_f1']:.4f}",
        *(None if gap is None else f"{100 * gap:+.2f}" for gap in gaps),
    )


def _experts(evaluation: Mapping[str, Any], routing: str) -> Table:
    found, experts = evaluation["routings"][routing], evaluation["groups"]
    load = (found["routing_metrics"] or {}).get("load") or [None] * len(experts)
    drops = found["ablation"] or [None] * len(experts)
    own = evaluation["parts"]["experts"]
    rows = [
        (
            expert,
            None if share is None else f"{share:.3f}",
            percent(own[expert]["accuracy"]),
            None if drop is None else f"{100 * drop:+.2f}",
        )
        for expert, share, drop in zip(experts, load, drops, strict=True)
    ]
    note = (
        "By itself: on its own group's examples, or, unnamed, on those that the gate gives it. "
        "Lost without it: the points of accuracy that the mixture loses when the gate may not "
        "choose it and its share goes to the others."
    )
    if found["boost"] is not None:
        sentence = boost_sentence(found["boost"])
        note += f" {sentence[:1].upper()}{sentence[1:]}."
    header = ("expert", "load", "by itself %", "lost without it")
    return Table(f"Experts, {routing}", header, rows, note)


def _health(results: Mapping[str, Any] | None) -> Iterator[Table]:
    """What went wrong while it trained; none where nothing did."""
    keys = ("condition", "expert", "stage", "epoch", "message")
    rows = [
        tuple(str(found[key]) or None for key in keys)
        for found in (results or {}).get("health", ())
    ]
    if rows:
        header = (*keys[:-1], "meaning")
        yield Table("Health", header, rows, "As the validation split showed it while it trained.")


def _networks(evaluation: Mapping[str, Any]) -> Table:
    experts = {f"expert_{e}": name for e, name in enumerate(evaluation["groups"])}
    experts = {part: name for part, name in experts.items() if name != part}
    experts |= {part.replace("expert", "combiner"): name for part, name in experts.items()}
    rows = [
        (
            f"{part} ({experts[part]})" if part in experts else part,
            f"{cost['parameters']:,}",
            f"{cost['macs']:,}",
        )
        for part, cost in evaluation["architecture"]["parts"].items()
    ]
    return Table("Networks", ("network", "parameters", "MACs an example"), rows)
