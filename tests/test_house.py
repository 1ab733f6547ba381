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
        *("moe.backbone_names", "moe.replicas", "moe.sweep_axes"),
        *("moe.typed", "moe.types"),
    ],
    [
        "moe.config",
        "moe.config.choices",
        "moe.config.checks",
        "moe.data.source",
        "moe.routing",
        "moe.losses",
    ],
    ["moe.config.sections", "moe.config.specs"],
    ["moe.config.validation"],
    ["moe.config.run"],
    ["moe.config.identity", "moe.config.tools"],
    ["moe.taxonomy", "moe.defaults", "moe.discovery", "moe.run_files"],
    [
        *("moe.data.*", "moe.models.*", "moe.evaluate.attribution", "moe.evaluate.extremes"),
        *("moe.evaluate.gate", "moe.evaluate.inputs", "moe.evaluate.metrics"),
        "moe.evaluate.tables",
    ],
    [
        *("moe.compare.arms", "moe.compare.reading", "moe.compare.record"),
        *("moe.compare.statistics", "moe.compare.summary"),
    ],
    ["moe.compare.rows"],
    ["moe.compare.present"],
    ["moe.compare.words"],
    ["moe.compare.ablations"],
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
        "moe.train.guard",
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
    [
        "moe.serving",
        "moe.train.faults",
        "moe.train.loop",
        "moe.train.step",
        "moe.train.warm_start",
    ],
    ["moe.train.best_weights", "moe.train.judge", "moe.train.validation"],
    ["moe.train.stage_run", "moe.train.accounts"],
    ["moe.train.trainer", "moe.provenance"],
    ["moe.outcome"],
    ["moe.run", "moe.run_folder", "moe.evaluate.run", "moe.report.*", "moe.benchmark.*"],
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


# Whoever can write a file of these formats can have it run code, or write where it likes.
CODE_IN_DATA = {
    *("pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"),
    *("tarfile", "h5py", "yaml", "runpy", "code"),
}
RUNS_CODE = {
    *("eval", "exec", "compile", "load_model", "load_weights", "from_config", "extractall"),
    *("unpack_archive", "deserialize_keras_object", "clone_model", "model_from_json"),
    *("unsafe_deserialization", "enable_unsafe_deserialization", "read_pickle"),
}
# With the reason why it is no way in.
NO_WAY_IN = {
    ("moe.benchmark.training", "from_config"): "a layer's own, in memory",
    ("moe.benchmark.training", "clone_model"): "a layer's own, in memory",
    ("moe.models.trunk", "from_config"): "a layer's own, in memory",
    ("moe.report.write", "routing_figures.load"): "a drawing of the load",
    ("moe.models.gate", "deserialize_keras_object"): "what Keras asks a model to have",
    ("moe.models.mixture", "deserialize_keras_object"): "what Keras asks a model to have",
}


def _loads_code(path: pathlib.Path) -> list[str]:
    """What a file imports or calls that may run code out of data."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [node.module or "", *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Call):
            words = ast.unparse(node.func).split(".")
            if words[-1] == "load" and words[:-1] != ["json"]:
                safe = any(k.arg == "allow_pickle" and not k.value.value for k in node.keywords)
                found += [] if words[0] == "np" and safe else [ast.unparse(node.func)]
            elif words[-1] in RUNS_CODE and words[:-1] not in (["re"], ["model"]):
                found.append(words[-1])
    return [n for n in found if n.split(".")[0] in CODE_IN_DATA | RUNS_CODE or n.endswith(".load")]


def test_nothing_runs_code_out_of_data():
    """No pickle, no Keras model file, no archive: checkpoints hold tensors, the rest is JSON."""
    for path in (*MODULES.values(), ROOT / "train.py", ROOT / "eval.py", *ROOT.glob("flags/*.py")):
        loads = {n for n in _loads_code(path) if (_name(path), n) not in NO_WAY_IN}
        assert not loads, f"{path}: {loads}"


@pytest.mark.parametrize(
    "line",
    [
        *("import pickle", "from dill import loads", "import joblib.memory", "eval(text)"),
        *("keras.models.load_model(path)", "np.load(path)", "np.load(path, allow_pickle=True)"),
        *("tf.saved_model.load(path)", "shutil.unpack_archive(path)", "network.load_weights(path)"),
    ],
)
def test_code_out_of_data_would_be_seen(tmp_path, line):
    (tmp_path / "module.py").write_text(line)
    assert _loads_code(tmp_path / "module.py")
    (tmp_path / "module.py").write_text(
        "json.load(f); np.load(p, allow_pickle=False); re.compile(x)"
    )
    assert not _loads_code(tmp_path / "module.py")


def _run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        (
            "from flags.parse import parse_train; parse_train(['train.py'])",
            ("tensorflow", "keras", "sklearn", "numpy"),
        ),
        ("import moe.evaluate.compare", ("tensorflow", "keras")),
    ],
)
def test_what_needs_no_tensorflow_does_not_load_it(code, unwanted):
    answer = _run("-c", f"import sys; {code}; print([n for n in {unwanted} if n in sys.modules])")
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "command",
    [
        "train --mode=benchmark --sweep=colour=red",
        "train --mode=benchmark --sweep=batch_size=0",
        "train --mode=benchmark --sweep=expert=nobody",
        "train --mode=benchmark --sweep=load=zipf",
        "train --mode=benchmark --sweep=jit_compile=on --routing=hard",
        "train --mode=benchmark --routing=topk",
        "train --mode=benchmark --cpu_replicas=2",
        "train --gate_backbone=nobody",
        "train --expert_backbone=mlp-0",
        "train --baseline_backbone=deep*0",
        "train --jit_compile --cpu_replicas=2",
        "eval --workdir=nowhere",
        "eval --compare=nowhere,neither",
    ],
)
def test_a_wrong_value_is_found_without_tensorflow(command):
    program, *arguments = command.split()
    code = f"""
import sys
sys.argv = ["{program}.py", *{arguments}]
import {program}
from flags.parse import run_program
print(run_program({program}.main), [n for n in ("tensorflow", "keras") if n in sys.modules])
"""
    answer = _run("-c", code)
    assert answer.stdout.split("\n")[0] == "2 []"
    assert answer.stderr.startswith("error: --")


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
