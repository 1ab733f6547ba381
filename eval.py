"""Evaluates, compares or uses finished runs: `python eval.py --help`."""

import pathlib
import sys

from flags.parse import parse_eval, run_program
from moe.quiet import load_tensorflow
from moe.run_files import find_run


def main() -> int:
    """Parses and looks first: nobody waits for TensorFlow to hear of a wrong flag or folder."""
    config = parse_eval(sys.argv)
    if config.compare:
        from moe.evaluate.compare import show

        return show(config.compare)
    find_run(pathlib.Path(config.workdir))
    load_tensorflow()
    if config.export or config.predict:
        from moe.evaluate.use import use

        return use(config)
    from moe.evaluate.run import evaluate

    return evaluate(config)


if __name__ == "__main__":
    sys.exit(run_program(main))
