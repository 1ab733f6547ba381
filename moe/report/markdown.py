"""What generated pages have in common: tables, where a figure comes from, marks around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moe.errors import UserError


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table, lines ended."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def origin(found: Mapping[str, Any]) -> str:
    """Command, device, versions and revision of what a JSON file says."""
    return f"`{found['command']}`; {made_with(found)}"


def origin_line(title: str, found: Mapping[str, Any]) -> str:
    """The same as an item of a list."""
    return f"- {title}: {origin(found)}"


def made_with(found: Mapping[str, Any]) -> str:
    """Device, versions and revision: what the runs of one experiment have in common."""
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    return f"{found['device']}; {versions}; revision {found['revision']}"


def replace_marked(text: str, begin: str, end: str, block: str) -> str:
    """The text with `block` in place of two marks and what is between them.

    Raises:
      UserError: a mark is not there.
    """
    for mark in (begin, end):
        if mark not in text:
            raise UserError(f"the page has lost its mark {mark.strip()!r}; put it back.")
    return text[: text.index(begin)] + block + text[text.index(end) + len(end) :]
