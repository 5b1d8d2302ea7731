"""The notebook of examples/ runs as it stands on a sweep's folder, and draws what the sweep's own table has."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient
from typer.testing import CliRunner

from experiments.cli import app
from tests.support.paths import ROOT

NOTEBOOK = ROOT / "examples" / "figure.ipynb"
PNG = b"\x89PNG"
POLICIES = "round_robin,netkv_static,netkv_full"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sweep") / "staleness"
    small = [
        "--world",
        "analytic",
        "--requests",
        "40",
        "--seed",
        "0",
        "--policies",
        "round_robin,netkv_static,netkv_full",
    ]
    done = CliRunner().invoke(app, ["sweep", "staleness", *small, "--out", str(out)])
    assert done.exit_code == 0, done.output
    return out


@pytest.fixture(scope="module")
def outputs(sweep: Path) -> list[dict[str, Any]]:
    """What each cell of code shows, by type of content."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("NETKV_SWEEP", str(sweep))
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(NOTEBOOK.parent)}})
        client.execute()
    return [
        {kind: data for output in cell.outputs for kind, data in output.get("data", {}).items()}
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def test_the_last_cell_draws_a_figure(outputs: list[dict[str, Any]]) -> None:
    picture = base64.b64decode(outputs[-1]["image/png"])
    assert picture.startswith(PNG)
    assert len(picture) > 10_000


def test_its_table_is_the_sweeps_own(outputs: list[dict[str, Any]], sweep: Path) -> None:
    table = pd.read_csv(sweep / "staleness.csv")
    shown = outputs[2]["text/plain"]
    for ttft_ms in table["ttft_ms"]:
        assert f"{ttft_ms:.2f}" in shown
    assert len(table) == 5


def test_it_is_kept_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert [
        cell for cell in notebook.cells if cell.cell_type == "code" and (cell.outputs or cell.execution_count)
    ] == []
