"""Where a figure comes from: command, versions, device, source revision."""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import platform
import shlex
import subprocess
import sys
from typing import Any

from moe.train.devices import describe_device, threads

_PACKAGES = ("tensorflow", "keras", "numpy", "tensorflow-datasets", "scikit-learn", "pillow")


def command_line() -> str:
    """The command of this process, as one could type it in the checkout."""
    return _command("python", pathlib.Path(sys.argv[0]).name, *sys.argv[1:])


def continue_command(workdir: pathlib.Path | None) -> str:
    """The command that continues the run in `workdir` from here, also where that was not named.

    None: the run has no folder yet.
    """
    flags = sys.argv[1:]
    if workdir and not any(flag.startswith(("--workdir", "-workdir")) for flag in flags):
        flags = [*flags, f"--workdir={workdir}"]
    return _command(_python(), sys.argv[0], *flags)


def evaluate_command(workdir: pathlib.Path) -> str:
    """The command that evaluates the run in `workdir` from here."""
    program = pathlib.Path(sys.argv[0]).with_name("eval.py")
    return _command(_python(), str(program), f"--workdir={workdir}")


def _command(*words: str) -> str:
    return " ".join(map(shlex.quote, words))


def _python() -> str:
    """The interpreter as one would call it: by its path if its environment is not activated."""
    inside = sys.prefix != sys.base_prefix
    if inside and os.environ.get("VIRTUAL_ENV") != sys.prefix:
        return os.path.relpath(sys.executable)
    return "python"


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
