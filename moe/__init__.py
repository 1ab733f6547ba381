"""A mixture-of-experts framework for classification, in TensorFlow.

Start with `moe.types`, `moe.routing`, `moe.train.step` and `moe.train.loop`. The names below are
what other programs build with (see `docs/library.md`); each is imported when it is first asked
for, so that `import moe` alone does not load TensorFlow.
"""

import importlib

__version__ = "0.1.0"

_PUBLIC = {
    "BatchNorm": "moe.models.normalization",
    "Conv2D": "moe.models.layers",
    "Dropout": "moe.models.layers",
    "MaxPool": "moe.models.layers",
    "MixtureOfExperts": "moe.models.mixture",
    "Router": "moe.models.router_layer",
    "Standardize": "moe.models.layers",
    "UserError": "moe.errors",
    "make_router": "moe.models.routers",
    "open_trained": "moe.trained",
    "write_export": "moe.serving",
}


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
