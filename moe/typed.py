"""Plain values, as read from JSON: checked against type annotations, and looked up."""

# No `from __future__ import annotations` where a `TypedDict` is: it would hide what is required.

import types
import typing
from typing import Any


def check(value: Any, hint: Any, place: str) -> None:
    """Checks that a value is what its annotation says, all the way down.

    Args:
      value: what `json.loads` gave.
      hint: a plain type, a union of them, `list[…]`, `tuple[…, ...]`, `dict[str, …]` or a
        `TypedDict`. A `TypedDict` may hold keys that its annotation does not know; an `int` is
        also a `float`, and a list may stand for a tuple, which JSON does not have.
      place: the name of the value, for the message.

    Raises:
      ValueError: names the first place that does not fit.
    """
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if typing.is_typeddict(hint):
        _require(isinstance(value, dict), place, value)
        for name, kind in typing.get_type_hints(hint).items():
            if name in value:
                check(value[name], kind, f"{place}.{name}")
            elif name in hint.__required_keys__:
                raise ValueError(f"{place}.{name} is missing")
    elif origin is dict:
        _require(isinstance(value, dict), place, value)
        for name, item in value.items():
            check(item, inner[1], f"{place}.{name}")
    elif origin in (list, tuple):
        _require(isinstance(value, (list, origin)), place, value)
        for number, item in enumerate(value):
            check(item, inner[0], f"{place}[{number}]")
    else:
        allowed = inner if origin is types.UnionType else (hint,)
        also_float = type(value) is int and float in allowed
        _require(type(value) in allowed or also_float, place, value)


def dig(content: Any, *keys: str) -> Any:
    """What lies in nested objects under these keys, one in the other; None where a key is not."""
    for key in keys:
        content = (content or {}).get(key)
    return content


def _require(fits: bool, place: str, value: Any) -> None:
    if not fits:
        raise ValueError(f"{place} is {value!r:.40}")
