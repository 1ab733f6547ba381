"""Other people's errors, said in one line."""

import pytest

from moe.errors import first_line, reason


@pytest.mark.parametrize(
    ("error", "whole", "first"),
    [
        (ValueError("\n wrong\n\tshape "), "ValueError: wrong shape", "wrong"),
        (TypeError("a \x1b[1mlayer\x1b[0m"), "TypeError: a layer", "a layer"),
        (KeyError(), "KeyError", "KeyError"),
        (OSError("x" * 900), f"OSError: {'x' * 300}", "x" * 900),
    ],
)
def test_an_error_in_one_line(error, whole, first):
    assert reason(error) == whole
    assert first_line(error) == first
