"""Evaluates, compares or uses finished runs: `python eval.py --help`."""

import sys

from flags.parse import parse_eval, run_program
from moe.quiet import load_tensorflow


def main() -> int:
    """Parses first: a wrong flag must not wait for TensorFlow to load."""
    config = parse_eval(sys.argv)
    load_tensorflow()
    if config.export or config.predict:
        from moe.evaluate.use import use

        return use(config)
    from moe.evaluate.run import evaluate

    return evaluate(config)


if __name__ == "__main__":
    sys.exit(run_program(main))
