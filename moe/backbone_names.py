"""Which names a backbone may have. No TensorFlow here: a wrong name is found without it."""

from __future__ import annotations

import math
import re

from moe.errors import UserError

BACKBONES = ("small", "deep", "tiny", "pooled", "fast")
"""What `moe.models.backbones` itself registers."""
_known = list(BACKBONES)


def add_backbone(name: str) -> None:
    """Makes `name` one of the known ones."""
    if name not in _known:
        _known.append(name)


def backbone_problem(name: str) -> str | None:
    """What a backbone must be that `name` is not; None: nothing is wrong as far as a name tells.

    What is to be imported (`package.module:function`) is not tried.
    """
    plain, star, factor = name.partition("*")
    if plain not in _known and not re.fullmatch(r"mlp(-[1-9]\d*)+", plain) and ":" not in plain:
        return (
            f"one of {', '.join(_known)}, mlp-WIDTH-WIDTH…, or package.module:function; NAME*1.5 "
            "is one and a half times as wide"
        )
    if star and not 0 < _number(factor) < math.inf:
        return "given a width greater than 0 after the *"
    return None


def each_backbone(names: str, count: int) -> list[str]:
    """One name an expert out of `NAME` for all of them, or `NAME,NAME,…`.

    Raises:
      UserError: there are neither one nor `count`.
    """
    found = names.split(",")
    if len(found) not in (1, count):
        raise UserError(
            f"--expert_backbone={names}: names {len(found)} networks for {count} experts; give one "
            "for all, or one each."
        )
    return found * count if len(found) == 1 else found


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
