"""The lab notebook: carried out from its first cell to its last, and committed without outputs."""

from __future__ import annotations

import json
import pathlib
import re

import nbclient
import nbformat
import pytest

ROOT = pathlib.Path(__file__).parents[2]
LAB = ROOT / "examples" / "lab.ipynb"

# What stands in for the notebook's own settings: the same lab in a dollhouse.
SETTINGS = """
import functools
from moe.data import registry, shapes
shapes.SIZE = 16
registry._GENERATED["shapes"] = functools.partial(shapes.shapes, 300, 120)
DATASET = "shapes"
MORE = (
    "--train_examples=250 --notensorboard "
    "--gate_backbone=mlp-8 --expert_backbone=mlp-8 --baseline_backbone=mlp-8"
)
RUNS = {runs!r}
"""


@pytest.fixture
def notebook():
    found = nbformat.read(LAB, as_version=4)
    nbformat.validate(found)
    return found


@pytest.mark.slow
def test_the_lab_runs_from_start_to_finish(notebook, tmp_path, monkeypatch):
    (settings,) = (
        n for n, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", ())
    )
    runs = tmp_path / "runs"
    injected = nbformat.v4.new_code_cell(SETTINGS.format(runs=str(runs)))
    notebook.cells.insert(settings + 1, injected)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for folder in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(folder, str(tmp_path / folder))
    resources = {"metadata": {"path": str(LAB.parent)}}
    nbclient.NotebookClient(notebook, timeout=600, resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    # A program that fails inside of a cell does not fail the cell.
    assert not [output for output in outputs if output.output_type == "error"]
    said = "".join(output.text for output in outputs if output.output_type == "stream")
    assert "McNemar's exact test" in said
    pictures = [output for output in outputs if "image/png" in output.get("data", ())]
    assert len(pictures) > 15
    compared = json.loads((runs / "baseline" / "comparison.json").read_text())["runs"]
    assert [(run["mode"], run["routing"]) for run in compared.values()] == [
        ("baseline", "hard"),
        ("separate", "hard"),
        ("joint", "hard"),
        ("joint", "soft"),
    ]


def test_the_lab_is_committed_without_outputs(notebook):
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
        assert "execution" not in cell.metadata


def test_the_labs_links_lead_somewhere(notebook):
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert links
    for link in links:
        assert (LAB.parent / link).is_file(), link
