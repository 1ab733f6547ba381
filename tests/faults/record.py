"""What a harness found, as `docs/reliability.md` shows it."""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from typing import Any

from tests.faults.warm import ROOT

FOLDER = ROOT / "docs" / "results" / "reliability"


def parser(text: str, count: int) -> argparse.ArgumentParser:
    """The options that every harness has."""
    options = argparse.ArgumentParser(description=text.splitlines()[0])
    options.add_argument("--count", type=int, default=count, help=f"how often (default {count})")
    options.add_argument("--seed", type=int, default=0, help="of what is drawn")
    options.add_argument("--folder", type=pathlib.Path, help="where runs go; default: a new one")
    options.add_argument("--record", action="store_true", help=f"write {FOLDER.name}/NAME.json")
    return options


def finish(name: str, options: argparse.Namespace, found: dict[str, Any], faults: list[str]) -> int:
    """Prints what was found, records it where that was asked for, and returns the exit code.

    Args:
      name: of the harness.
      options: of `parser`.
      found: numbers by name.
      faults: what should not have happened, one line each.
    """
    found |= {"count": options.count, "seed": options.seed, "faults": faults}
    print(json.dumps(found, indent=1))
    if options.record:
        from moe.provenance import provenance

        arguments = [word for word in sys.argv[1:] if not word.startswith("--folder")]
        command = " ".join(["python", "-m", f"tests.faults.{name}", *arguments])
        FOLDER.mkdir(parents=True, exist_ok=True)
        content = found | provenance() | {"command": command}
        (FOLDER / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    return 1 if faults else 0
