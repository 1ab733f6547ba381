"""The house rules: floors, no import circles, no TensorFlow before the flags are read."""

from __future__ import annotations

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# From the ground up; a module imports from its own floor or from lower ones.
FLOORS = [
    [
        *("moe", "moe.errors", "moe.files", "moe.memory", "moe.quiet", "moe.randomness"),
        *("moe.typed", "moe.types"),
    ],
    ["moe.config", "moe.data.source", "moe.routing", "moe.losses"],
    ["moe.taxonomy", "moe.defaults", "moe.discovery", "moe.run_files"],
    [
        *("moe.data.*", "moe.models.*", "moe.evaluate.attribution", "moe.evaluate.extremes"),
        *("moe.evaluate.gate", "moe.evaluate.inputs", "moe.evaluate.metrics"),
        "moe.evaluate.tables",
    ],
    ["moe.compare.arms", "moe.compare.record", "moe.compare.statistics", "moe.compare.summary"],
    ["moe.compare.present"],
    ["moe.workspace", "moe.evaluate.predict", "moe.evaluate.present", "moe.evaluate.side_by_side"],
    [
        "moe.evaluate.compare",
        "moe.evaluate.examine",
        "moe.evaluate.predictions",
        "moe.evaluate.routings",
        "moe.evaluate.summary",
    ],
    [
        "moe.train.averaging",
        "moe.train.budget",
        "moe.train.checkpoint",
        "moe.train.devices",
        "moe.train.health",
        "moe.train.loss_scale",
        "moe.train.meter",
        "moe.train.muon",
        "moe.train.optimizers",
        "moe.train.precision",
        "moe.train.profile",
        "moe.train.progress",
        "moe.train.routing_watch",
        "moe.train.schedules",
        "moe.train.signals",
        "moe.train.stages",
        "moe.train.team",
        "moe.train.tensorboard",
        "moe.train.weight_groups",
    ],
    ["moe.train.objectives", "moe.train.context", "moe.train.state"],
    ["moe.trained"],
    ["moe.serving", "moe.train.step", "moe.train.loop", "moe.train.warm_start"],
    ["moe.train.stage_run", "moe.train.accounts"],
    ["moe.train.trainer", "moe.provenance"],
    ["moe.run", "moe.evaluate.run", "moe.report.*", "moe.benchmark.*"],
    ["moe.evaluate.use", "moe.find_groups", "moe.compare.*"],
]


def _name(path: pathlib.Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(path): path for path in sorted((ROOT / "moe").rglob("*.py"))}
PACKAGES = {name for name, path in MODULES.items() if path.name == "__init__.py"}


def _imports(name: str) -> set[str]:
    """The project's modules that `name` imports, also inside of functions."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {n if n in MODULES else node.module for n in whole}
    return {n for n in found if n.partition(".")[0] in ("moe", "flags")}


def _floor(name: str) -> int:
    exact = [n for n, floor in enumerate(FLOORS) if name in floor]
    folder = [n for n, floor in enumerate(FLOORS) if f"{name.rpartition('.')[0]}.*" in floor]
    return (exact or folder)[0]


@pytest.mark.parametrize("name", sorted(set(MODULES) - PACKAGES))
def test_a_module_imports_only_from_its_own_floor_or_below(name):
    for imported in _imports(name) - PACKAGES:
        assert imported in MODULES, f"{name} imports {imported}: moe never imports flags"
        assert _floor(imported) <= _floor(name), f"{name} imports {imported}, which is above it"


def test_there_is_no_import_circle():
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"circle: {' -> '.join((*path, name))}"
        if name not in done:
            for imported in _imports(name) - PACKAGES:
                visit(imported, (*path, name))
            done.add(name)

    for name in MODULES:
        visit(name, ())


def test_packages_are_empty_doors():
    """An `__init__` with imports would pull whole floors in through the back."""
    for name in PACKAGES:
        assert not _imports(name)


def _run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60
    )


def test_reading_flags_does_not_load_tensorflow():
    code = (
        "import sys; from flags.parse import parse_train; parse_train(['train.py']);"
        "print([n for n in ('tensorflow', 'keras', 'sklearn', 'numpy') if n in sys.modules])"
    )
    assert _run("-c", code).stdout.strip() == "[]"


@pytest.mark.parametrize("program", ["train.py", "eval.py"])
def test_the_help_page_reads_well(program):
    answer = _run(program, "--helpshort")
    assert answer.returncode == 0
    assert "--workdir" in answer.stdout
    assert max(map(len, answer.stdout.splitlines())) <= 100
    assert not answer.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train.py", "--mode=x"], "--mode=x: must be one of baseline"),
        (["train.py", "--nonsense=1"], "nonsense"),
        (["train.py", "--batch_size=many"], "batch_size=many"),
        (["train.py", "--batch_size=0"], "--batch_size=0: must be greater than 0"),
        (["train.py", "stray"], "stray"),
        (["train.py", "--flagfile=nowhere.flags"], "nowhere.flags"),
        (["train.py", "--nobaseline", "--boost=scalar"], "--boost=scalar"),
        (["train.py", "--learning_rate=nan"], "--learning_rate=nan"),
        (["eval.py"], "--workdir=RUN"),
        (["eval.py", "--compare=a"], "at least two"),
        (["eval.py", "--workdir=a", "--routing=sideways"], "--routing=sideways"),
    ],
)
def test_a_wrong_flag_gets_one_line_and_exit_code_2(arguments, says):
    answer = _run(*arguments)
    assert answer.returncode == 2
    assert not answer.stdout
    (line,) = answer.stderr.splitlines()
    assert line.startswith("error: ")
    assert says in line
