"""Shared by all tests: a quiet TensorFlow and small data sets."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Networks of tests are too small to share: with two test processes on two cores, threads of one
# wait for those of the other (the whole suite takes an eighth longer).
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
