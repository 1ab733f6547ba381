"""Trains a mixture of experts, compares ways to, or times it: `python train.py --help`."""

import sys

from flags.parse import parse_train, run_program
from moe.config.tools import BenchmarkConfig, CompareConfig
from moe.quiet import load_tensorflow


def main() -> int:
    """Parses first: a wrong flag must not wait for TensorFlow to load."""
    config = parse_train(sys.argv)
    load_tensorflow()
    if isinstance(config, BenchmarkConfig):
        from moe.benchmark.run import benchmark

        return benchmark(config)
    if isinstance(config, CompareConfig):
        from moe.compare.run import compare

        return compare(config)
    if (config.data.groups or "").startswith("auto:"):
        from moe.find_groups import find_and_train

        return find_and_train(config)
    from moe.run import train

    return train(config)


if __name__ == "__main__":
    sys.exit(run_program(main))
