from __future__ import annotations

import hashlib

import numpy as np
import pytest

from moe.data.source import Examples

EXAMPLES = Examples(np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3), np.array([0, 1], np.int32))


def test_a_digest_is_of_names_dtypes_shapes_and_values():
    by_hand = b"features uint8 (2, 2, 2, 3)" + bytes(range(24))
    by_hand += b"label int32 (2,)" + bytes([0, 0, 0, 0, 1, 0, 0, 0])
    assert EXAMPLES.digest() == hashlib.sha256(by_hand).hexdigest()
    strided = EXAMPLES._replace(features=np.repeat(EXAMPLES.features, 2, axis=0)[::2])
    assert strided.digest() == EXAMPLES.digest()


@pytest.mark.parametrize(
    "other",
    [
        EXAMPLES.take(np.array([1, 0])),
        EXAMPLES.take(np.array([], int)),
        EXAMPLES._replace(features=EXAMPLES.features[::-1]),
        EXAMPLES._replace(features=EXAMPLES.features.astype(np.int8)),
        EXAMPLES._replace(features=EXAMPLES.features.reshape(2, 4, 1, 3)),
        EXAMPLES._replace(label=EXAMPLES.label[::-1]),
        EXAMPLES._replace(weight=np.ones(2, np.float32)),
        EXAMPLES._replace(group=EXAMPLES.label),
    ],
)
def test_whatever_changes_has_another_digest(other):
    assert other.digest() != EXAMPLES.digest()
