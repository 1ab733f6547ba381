"""Evaluates or compares finished runs: `python eval.py --help`."""

import os
import sys

from flags.parse import parse_eval, run_program

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def main() -> int:
    """Parses first: a wrong flag must not wait for TensorFlow to load."""
    config = parse_eval(sys.argv)
    from moe.evaluate.run import evaluate

    return evaluate(config)


if __name__ == "__main__":
    sys.exit(run_program(main))
