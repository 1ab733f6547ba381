"""Where a figure comes from: command, versions, device, source revision."""

from __future__ import annotations

import importlib.metadata
import pathlib
import platform
import shlex
import subprocess
import sys
from typing import Any

from moe.train.devices import describe_device, threads

_PACKAGES = ("tensorflow", "keras", "numpy", "tensorflow-datasets", "scikit-learn")


def command_line() -> str:
    """The command of this process, as one could type it."""
    program = pathlib.Path(sys.argv[0]).name
    return " ".join(["python", program, *map(shlex.quote, sys.argv[1:])])


def continue_command(workdir: pathlib.Path) -> str:
    """The command that continues the run in `workdir`, also where that was not named."""
    command = command_line()
    if "--workdir" in command:
        return command
    return f"{command} --workdir={shlex.quote(str(workdir))}"


def evaluate_command(workdir: pathlib.Path) -> str:
    """The command that evaluates the run in `workdir`."""
    return f"python eval.py --workdir={shlex.quote(str(workdir))}"


def provenance() -> dict[str, Any]:
    """Everything that one needs to repeat a run, as plain values."""
    return {
        "command": command_line(),
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES}
        | {"python": platform.python_version()},
        "device": describe_device(),
        "threads": threads(),
        "revision": _revision(),
    }


def _revision() -> str | None:
    """The checkout's commit, with `-dirty` where files differ from it; None outside of git."""
    root = pathlib.Path(__file__).parent.parent
    try:
        answer = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
