import pytest
from toy import toy_source

from moe.data import registry


@pytest.fixture
def toy(monkeypatch):
    """Makes `--dataset=toy` known."""
    monkeypatch.setitem(registry._GENERATED, "toy", toy_source)
