"""Every flag of the programs, a function a group. No TensorFlow here.

A flag of `train.py` has the name of the field of `moe.config` that it fills and takes its default
from there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from absl import flags

from moe.backbone_names import BACKBONES
from moe.config import choices
from moe.config.run import Config
from moe.config.sections import DataConfig, LossConfig, ModelConfig, RuntimeConfig, TrainConfig
from moe.config.tools import BenchmarkConfig, CompareConfig, EvalConfig
from moe.sweep_axes import AXES

_OPEN = "by data set"
_REPORT = (
    "Draw WORKDIR/figures and write WORKDIR/report.html. Default: where matplotlib and Jinja2 are "
    "installed."
)


class _Definer:
    """Defines flags that take their defaults from the fields of a dataclass.

    The first line of the dataclass' docstring becomes their heading on the help page.
    """

    def __init__(self, values: flags.FlagValues, section: type) -> None:
        self._values = values
        self._heading = section.__doc__.splitlines()[0]
        self._defaults = {f.name: f.default for f in dataclasses.fields(section)}

    def _define(self, function: Callable, name: str, text: str) -> None:
        function(
            name,
            self._defaults[name],
            text,
            flag_values=self._values,
            module_name=self._heading,
        )

    def string(self, name: str, text: str) -> None:
        self._define(flags.DEFINE_string, name, text)

    def integer(self, name: str, text: str) -> None:
        self._define(flags.DEFINE_integer, name, text)

    def float(self, name: str, text: str) -> None:
        self._define(flags.DEFINE_float, name, text)

    def boolean(self, name: str, text: str) -> None:
        self._define(flags.DEFINE_boolean, name, text)

    def list(self, name: str, text: str) -> None:
        self._define(flags.DEFINE_list, name, text)

    def several(self, name: str, text: str) -> None:
        self._define(flags.DEFINE_multi_string, name, text)


def train_flags() -> flags.FlagValues:
    """The flags of `train.py`, not yet parsed."""
    values = flags.FlagValues()
    _Definer(values, Config).string("mode", f"What to train: {', '.join(choices.MODES)}.")
    for define in (_data, _model, _loss, _training, _runtime, _compare, _benchmark):
        define(values)
    return values


def eval_flags() -> flags.FlagValues:
    """The flags of `eval.py`, not yet parsed."""
    values = flags.FlagValues()
    define = _Definer(values, EvalConfig)
    define.string("workdir", "The finished run to evaluate.")
    define.list("compare", "Finished runs to put side by side: RUN_A,RUN_B.")
    define.list(
        "routing",
        f"Routings to try, of {', '.join(choices.EVALUATION_ROUTINGS)}, expert:NAME; the run's own "
        "if none is given.",
    )
    define.integer(
        "top_k",
        "Experts that answer with --routing=topk or noisy_topk. Default: the run's own, else 2.",
    )
    define.float(
        "gate_threshold",
        "Soft routing runs only experts with at least this share of the gate, and the favourite.",
    )
    define.string("tta", f"{', '.join(choices.TEST_TIME_AUGMENTATIONS)}. Default: the run's own.")
    define.string("eval_split", "test or validation.")
    define.string(
        "data_dir", "Folder of TFDS. Default: the run's own, or TFDS_DATA_DIR where that is gone."
    )
    define.string("precision", "Precision; the one the run was trained in if none.")
    define.integer("batch_size", "Examples a batch.")
    define.boolean("report", _REPORT)
    define.boolean(
        "export",
        "Write the mixture to WORKDIR/export, a SavedModel that TensorFlow alone can run, in "
        "float32, under one --routing that training knows; the run's own if none is given.",
    )
    define.string(
        "predict",
        "Classify these files: images ('photos/*.png'), or CSV tables for a run on table rows.",
    )
    define.string("predict_to", "Where the answers go. Default: WORKDIR/predicted.csv.")
    define.boolean(
        "skip_unreadable", "Leave out files of --predict that are no images, and name them."
    )
    return values


def _data(values: flags.FlagValues) -> None:
    define = _Definer(values, DataConfig)
    define.string(
        "dataset",
        "auto (CIFAR-10 where it can be had, else shapes), shapes, clusters, digits, iris, wine, "
        "breast_cancer, an image classification set by its TFDS name, folder:PATH (a sub-folder a "
        "class), csv:PATH?label=COLUMN, or rotate:NAME (images turned by known angles) "
        "(docs/data.md).",
    )
    define.string("data_dir", "Folder of TFDS; its own default (TFDS_DATA_DIR) if none.")
    define.string(
        "groups",
        "One expert a group: semantic, none:K (K experts, the gate finds its own regions), auto:K "
        "(K groups of classes that a baseline confuses, trained first), or a JSON file "
        f'{{"group": ["class", …]}}. Default: {_OPEN}.',
    )
    define.string("groups_from", "Finished run whose baseline finds the groups of auto:K.")
    define.float("validation_fraction", "Share of the training split kept for validation.")
    define.integer(
        "train_examples",
        "Use this many examples of the training split, validation included. Default: all.",
    )
    define.integer("data_seed", "Which examples are used and kept for validation.")
    define.string(
        "augment",
        f"{', '.join(choices.AUGMENTATIONS)}: mirrored at random, or every other epoch; cropped at "
        f"random. Default: {_OPEN}.",
    )
    define.integer("crop_reach", "Pixels that a crop moves an image by, at most.")
    define.integer(
        "image_size",
        "Make every image of a folder or a TFDS set N x N. Default: as they are, all of one size.",
    )
    define.boolean(
        "skip_unreadable", "Leave out files of a folder that are no images, and name them."
    )


def _model(values: flags.FlagValues) -> None:
    define = _Definer(values, ModelConfig)
    define.string(
        "expert_head", "full: experts answer over all classes; group: over their own group's."
    )
    define.boolean("baseline", "Have a baseline classifier.")
    define.string(
        "boost",
        "How experts are blended with the baseline: none, scalar (one share an example), "
        "per_class (one a class; default with a baseline).",
    )
    for part in ("gate", "expert", "baseline"):
        own = "NAME,NAME,…: one an expert, in the order of the groups. " if part == "expert" else ""
        define.string(
            f"{part}_backbone",
            f"Network of the {part}: {', '.join(BACKBONES)}, mlp-WIDTH-WIDTH…, or "
            f"package.module:function; NAME*1.5: half as wide again. {own}Default: {_OPEN}.",
        )
    define.integer(
        "trunk",
        "All networks share the expert backbone's layers up to and with its kernel number N, and "
        "each goes on with the rest of its own; 0: none.",
    )
    define.boolean(
        "whiten",
        "Networks that begin with a convolution whiten patches by it: filters fitted to the "
        "training images, and frozen.",
    )
    define.boolean(
        "identity_init", "Convolutions start by handing on their channels, not at random."
    )
    define.string(
        "routing",
        "soft (all experts run, weighted), hard (one runs), topk (--top_k run), noisy_topk (the "
        "gate learns noise that training adds), expert_choice (in training each expert takes its "
        "best examples of the batch; evaluation is soft).",
    )
    define.integer("top_k", "Experts that run an example with topk and noisy_topk.")
    define.float("gate_temperature", "Divides the gate's logits.")
    define.float(
        "balance_bias",
        "With hard and topk: each step moves a bias on each expert's score by this much towards "
        "an even load; no loss, no gradient. 0: none.",
    )
    define.string(
        "tta",
        f"{', '.join(choices.TEST_TIME_AUGMENTATIONS)}: the finished networks answer with the mean "
        "over an image and its mirror image, each of them, for twice the MACs.",
    )


def _loss(values: flags.FlagValues) -> None:
    define = _Definer(values, LossConfig)
    define.string(
        "mixture_loss",
        "likelihood: NLL of the mixture; expected: weighted sum of the experts' losses.",
    )
    define.float(
        "gate_supervision",
        "Weight of the gate's cross-entropy against the group. Default: 1 with named groups.",
    )
    define.float("baseline_loss", "Weight of the baseline's own loss. Default: .5.")
    define.float(
        "expert_loss", "Weight of each expert's own loss on its own examples. Default: .5."
    )
    define.float(
        "balance_loss", "Weight of the load-balancing loss. Default: 0 with named groups, else .01."
    )
    define.float(
        "importance_loss", "Weight of the squared variation (CV²) of the experts' gate mass."
    )
    define.float(
        "load_loss",
        "Weight of the squared variation (CV²) of the experts' expected load under noise; with "
        "noisy_topk.",
    )
    define.float("z_loss", "Weight of the router z-loss.")


def _training(values: flags.FlagValues) -> None:
    define = _Definer(values, TrainConfig)
    define.integer("epochs", f"Epochs a stage. Default: {_OPEN}.")
    define.integer("steps", "Steps a stage, in place of --epochs.")
    define.integer(
        "patience",
        "Stop a stage after this many epochs without a better validation score; 0: never. "
        f"Default: {_OPEN}.",
    )
    define.string("monitor", "Validation score that selects: accuracy or loss.")
    define.string(
        "class_weights",
        "How much each class counts in the losses: balanced, or a JSON file "
        '{"class": weight}. Default: all the same.',
    )
    define.integer("batch_size", f"Examples a step over all devices. Default: {_OPEN}.")
    define.string(
        "optimizer",
        f"{', '.join(choices.OPTIMIZERS)}; muon is for the kernels of hidden layers, and nesterov "
        "has the other weights.",
    )
    define.float("learning_rate", "Peak learning rate.")
    define.float("momentum", "Of momentum, nesterov and muon.")
    define.float(
        "bias_lr_scale", "Factor of the learning rate for the offsets of normalisation layers."
    )
    define.float("muon_rate", "Peak learning rate of the weights that are muon's.")
    define.string(
        "schedule",
        f"{', '.join(choices.SCHEDULES)}: how the learning rates go on; triangular rises over the "
        "first fifth, then falls to 0.",
    )
    define.float("weight_decay", "Decoupled weight decay.")
    define.float(
        "label_smoothing",
        "Share of a label's weight in the losses that all classes have alike; the gate's groups "
        "and every evaluation take labels at their word.",
    )
    define.float(
        "ema_decay",
        "Evaluate and keep an exponential average of the weights with this decay a step; 0: none.",
    )
    define.integer(
        "lookahead",
        "Every N steps the weights go back to an average that follows them ever more slowly, and "
        "that is evaluated and kept; 0: none.",
    )
    define.integer(
        "accumulate",
        "Slices that a batch is run in, one after the other, before the weights change once: a "
        "batch that would not fit into memory. Statistics of a batch become those of a slice.",
    )
    define.float(
        "capacity_factor",
        "With --jit_compile, a routed expert takes at most this many times its fair share of a "
        "training batch; the others fall back to the baseline. With expert_choice it always takes "
        "exactly that many. Evaluation drops nothing.",
    )
    define.string(
        "budget",
        "In place of --epochs and --steps: what training may spend in all, epochs:N (of each "
        "network), seconds:N or macs:N (docs/compare.md).",
    )
    define.integer("seed", "Initial weights, order, augmentation, dropout, sampling.")
    define.several(
        "init_from",
        "Start from the weights of a finished run: RUN (every network that fits by name), RUN:PART "
        "or 'RUN:PART->PART' (there -> here). Parts: baseline, gate, expert_0 … or a group's name, "
        "combiner_0 …; may be repeated, and the last one that names a part counts.",
    )
    define.list(
        "skip_stages",
        "Stages to leave out, by name as logged: their networks come trained from --init_from.",
    )


def _compare(values: flags.FlagValues) -> None:
    define = _Definer(values, CompareConfig)
    define.integer("seeds", "How many seeds every arm is trained with, from --seed on.")
    define.list("arms", "Arms to compare (docs/compare.md). Default: all.")
    define.string(
        "results",
        "Folder with a small JSON a row; rows that are there are not made again. "
        "Default: WORKDIR/results.",
    )


def _runtime(values: flags.FlagValues) -> None:
    define = _Definer(values, RuntimeConfig)
    define.string(
        "workdir",
        "Folder of the run; the same command again continues it. Default: runs/MODE-DATASET-TIME.",
    )
    define.integer("gpus", "Use up to this many GPUs. Default: all; with none, the CPU.")
    define.boolean("require_gpus", "Refuse to run on fewer GPUs than asked for.")
    define.integer("cpu_replicas", "Try data-parallel training on N CPU replicas.")
    define.string(
        "precision",
        "auto, float32, mixed_bfloat16, mixed_float16. auto: bfloat16 where the hardware "
        "multiplies it faster.",
    )
    define.integer(
        "steps_per_loop",
        "Steps on the device between two looks of Python. Default: about a second's worth.",
    )
    define.boolean("jit_compile", "Compile loss and gradients with XLA. Default: no.")
    define.boolean(
        "deterministic",
        "Have every operation give the same bits each time, on GPUs too: the same command then "
        "gives the same weights, where the number of threads is the same. Slower on GPUs.",
    )
    define.boolean("profile", "Profile one loop for TensorBoard, into WORKDIR/tensorboard.")
    define.boolean(
        "tensorboard", "Write the metrics for TensorBoard too, into WORKDIR/tensorboard."
    )
    define.boolean("report", _REPORT)
    define.string(
        "on_unhealthy",
        "warn or stop, when a mixture in training collapses, has a dead expert, a gate that is "
        "sure of nothing that matters, or experts that mend no error of the baseline.",
    )
    define.string(
        "on_nonfinite",
        "What to do where a loss or a gradient is not finite; the step itself changes nothing. "
        "stop: end with an error. skip: go on with the next step. rollback: go back to the last "
        "checkpoint and on at half the learning rate.",
    )
    define.float("checkpoint_seconds", "Longest time between checkpoints.")
    define.integer("checkpoint_steps", "Also save every N steps; 0: no.")
    define.integer("keep", "How many checkpoints to keep.")
    define.boolean(
        "export",
        "At the end, write the mixture to WORKDIR/export, a SavedModel that TensorFlow alone can "
        "run.",
    )


def _benchmark(values: flags.FlagValues) -> None:
    define = _Definer(values, BenchmarkConfig)
    define.list(
        "suite",
        "figures (against Keras, dense execution, one network), growth (cost by number of "
        "experts), crossover (where routing pays), aa (the same network twice, which every "
        "benchmark begins with, and nothing else). Default: all, or none with --sweep.",
    )
    define.several(
        "sweep",
        "AXIS=VALUE,VALUE; may be repeated: every combination is measured (docs/benchmark.md). "
        f"Axes: {', '.join(AXES)}.",
    )
    define.integer("rounds", "How often every way is timed, in turns.")
    define.float("window_seconds", "How long each time, about.")
