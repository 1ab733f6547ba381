from __future__ import annotations

import os
import pathlib
import time

import numpy as np
import pytest

from moe.data import registry, tfds_source
from moe.errors import UserError

PREPARED = os.environ.get("TFDS_DATA_DIR", "")
needs_cifar10 = pytest.mark.skipif(
    not (PREPARED and (pathlib.Path(PREPARED) / "cifar10").is_dir()),
    reason="CIFAR-10 is not prepared: set TFDS_DATA_DIR",
)


@needs_cifar10
def test_cifar10_is_the_published_set():
    source = registry.open_source("cifar10", None)
    assert source.classes[:3] == ("airplane", "automobile", "bird")
    examples = source.train()
    assert examples.features.shape == (50_000, 32, 32, 3)
    assert examples.features.dtype == np.uint8
    assert np.bincount(examples.label).tolist() == [5_000] * 10
    # Published channel means of the training split.
    means = examples.features[::10].mean(axis=(0, 1, 2)) / 255
    np.testing.assert_allclose(means, [0.4914, 0.4822, 0.4465], atol=0.005)
    assert len(source.test().label) == 10_000
    members = [name for group in source.partition.values() for name in group]
    assert sorted(members) == sorted(source.classes)


@needs_cifar10
def test_auto_is_cifar10_where_it_is_prepared():
    assert registry.open_source("auto", None).name == "cifar10"


def test_a_missing_set_is_answered_within_seconds(tmp_path, monkeypatch):
    # An address that swallows packets, as a cut-off machine meets it.
    monkeypatch.setattr(tfds_source, "_reachable", _with_url("http://192.0.2.1/file"))
    started = time.monotonic()
    with pytest.raises(UserError, match=r"not prepared under .* set --data_dir"):
        registry.open_source("cifar10", str(tmp_path))
    # The promise, not a speed: TFDS itself tries for minutes.
    assert time.monotonic() - started < 15


def test_auto_falls_back_to_shapes_with_a_warning(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tfds_source, "_reachable", lambda urls: False)
    source = registry.open_source("auto", str(tmp_path))
    assert source.name == "shapes"
    assert "warning: CIFAR-10 is not prepared here" in capsys.readouterr().err
    assert "synthetic" in source.note


@pytest.mark.parametrize("name", ["no_such_set", "csv", "nonsense:1"])
def test_an_unknown_set_is_never_replaced(name):
    with pytest.raises(UserError, match=f"--dataset={name}"):
        registry.open_source(name, None)


def _with_url(url: str):
    original = tfds_source._reachable
    return lambda urls: original([url])
