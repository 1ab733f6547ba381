"""What a flag may be, where it is one of a few words."""

from __future__ import annotations

MODES = ("baseline", "gate", "experts", "separate", "joint", "staged", "compare", "benchmark")
PART_MODES = ("baseline", "gate", "experts")
"""Modes that train networks by themselves and no mixture."""
BUDGETS = ("epochs", "seconds", "macs")
"""What training may be given."""
SUITES = ("figures", "growth", "crossover", "aa")
ROUTINGS = ("soft", "hard", "topk", "noisy_topk", "expert_choice")
TOP_K_ROUTINGS = ("topk", "noisy_topk")
"""Those that choose --top_k experts."""
BALANCED_ROUTINGS = ("hard", "topk")
"""Those that --balance_bias can balance."""
EVALUATION_ROUTINGS = (*ROUTINGS, "oracle", "oracle_best", "random", "uniform", "baseline")
LABEL_ROUTINGS = ("oracle", "oracle_best")
"""Routings that ask for the truth."""
EXPERT_HEADS = ("full", "group")
BOOSTS = ("none", "scalar", "per_class")
MIXTURE_LOSSES = ("likelihood", "expected")
PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")
OPTIMIZERS = ("sgd", "momentum", "nesterov", "adam", "adamw", "muon")
WITH_MOMENTUM = ("momentum", "nesterov", "muon")
"""Those that --momentum is for."""
SCHEDULES = ("constant", "cosine", "triangular")
AUGMENTATIONS = ("none", "flip", "flip_crop", "alternate", "alternate_crop", "crop")
TEST_TIME_AUGMENTATIONS = ("none", "flip")
MONITORS = ("accuracy", "loss")
SPLITS = ("test", "validation")
ON_UNHEALTHY = ("warn", "stop")
ON_NONFINITE = ("stop", "skip", "rollback")
