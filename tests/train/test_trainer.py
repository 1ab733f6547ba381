from __future__ import annotations

import pytest

from moe.train.context import Progress
from moe.train.stages import Stage
from moe.train.trainer import _is_ahead


@pytest.mark.parametrize(
    ("record", "ahead"),
    [
        ({"step": 8}, False),
        ({"step": 9}, True),
        ({}, True),
        ({"step": "8"}, True),
        ({"step": None}, True),
    ],
)
def test_a_record_stays_only_where_its_step_is_known_to_be_done(record, ahead):
    progress = Progress(total_steps=8)
    assert _is_ahead(record, progress, [Stage("gate", "part", ("gate",))]) == ahead
