"""What the harnesses found, and how `docs/reliability.md` shows it.

    python -m tests.faults.record

puts what lies in `docs/results/reliability` into the page.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

from moe.report.markdown import origin, replace_marked, table

ROOT = pathlib.Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "results" / "reliability"
PAGE = ROOT / "docs" / "reliability.md"
_FROM, _TO = "<!-- what the harnesses found: generated -->\n", "<!-- end -->\n"
_PROVENANCE = ("command", "versions", "device", "threads", "revision", "count", "seed", "faults")


def parser(text: str, count: int) -> argparse.ArgumentParser:
    """The options that every harness has."""
    options = argparse.ArgumentParser(description=text.splitlines()[0])
    options.add_argument("--count", type=int, default=count, help=f"how often (default {count})")
    options.add_argument("--seed", type=int, default=0, help="of what is drawn")
    options.add_argument("--folder", type=pathlib.Path, help="where runs go; default: a new one")
    options.add_argument("--record", action="store_true", help="put it into docs/reliability.md")
    return options


def place(name: str, options: argparse.Namespace) -> pathlib.Path:
    """The folder that was asked for, else a new one."""
    prefix = f"{name.replace('_', '-')}-"
    return options.folder or pathlib.Path(tempfile.mkdtemp(prefix=prefix))


def finish(name: str, options: argparse.Namespace, found: dict[str, Any], faults: list[str]) -> int:
    """Prints what was found, records it where that was asked for, and returns the exit code.

    Args:
      name: of the harness.
      options: of `parser`.
      found: numbers by name.
      faults: what should not have happened, one line each.
    """
    # Tracebacks name files; where the checkout lies is nobody's business.
    faults = [fault.replace(f"{ROOT}/", "") for fault in faults]
    found = {**found, "count": options.count, "seed": options.seed, "faults": faults}
    print(json.dumps(found, indent=1))
    if options.record:
        from moe.provenance import provenance

        words = (word for word in sys.argv[1:] if not word.startswith("--folder"))
        command = " ".join(["python", "-m", f"tests.faults.{name}", *words])
        FOLDER.mkdir(parents=True, exist_ok=True)
        content = found | provenance() | {"command": command}
        (FOLDER / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
        main()
    return 1 if faults else 0


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_value(each)}" for name, each in value.items())
    return f"{value:,}" if isinstance(value, int) else str(value)


def section(folder: pathlib.Path = FOLDER) -> str:
    """The generated part of the page, its marks included."""
    blocks = []
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        numbers = {name: v for name, v in content.items() if name not in _PROVENANCE}
        numbers["faults"] = len(content["faults"])
        rows = [(name.replace("_", " "), _value(v)) for name, v in numbers.items()]
        title = path.stem.replace("_", " ")
        blocks.append(f"\n### {title}\n\n{table(('found', ''), rows)}\n{origin(content)}\n")
    return _FROM + "".join(blocks) + _TO


def whole_page(page: str, generated: str) -> str:
    """The page with its generated part replaced."""
    return replace_marked(page, _FROM, _TO, generated)


def main() -> int:
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(whole_page(page, section()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
