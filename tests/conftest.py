"""What all tests share: a quiet TensorFlow and reproducible property tests."""

import os

from hypothesis import settings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# The same examples in every run, no time limit for a single one, nothing written to disk.
settings.register_profile(
    "moe", deadline=None, max_examples=30, derandomize=True, database=None, print_blob=False
)
settings.load_profile("moe")
