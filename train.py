"""Trains a mixture of experts: `python train.py --help`."""

import os
import sys

from flags.parse import parse_train, run_program

# TensorFlow's start-up chatter would bury the run's own lines; errors still show.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def main() -> int:
    """Parses first: a wrong flag must not wait for TensorFlow to load."""
    config = parse_train(sys.argv)
    from moe.run import train

    return train(config)


if __name__ == "__main__":
    sys.exit(run_program(main))
