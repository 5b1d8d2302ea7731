"""The notebook of examples/ runs as it stands on a sweep's folder, and draws what the sweep's own table has.

Its cells are plain Python, run here one after another in one namespace, without Jupyter and its two dozen packages;
`make docs` runs it in Jupyter.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
import pytest
from typer.testing import CliRunner

from experiments.cli import app
from tests.support.paths import ROOT

NOTEBOOK = ROOT / "examples" / "figure.ipynb"
POLICIES = "round_robin,netkv_static,netkv_full"


def cells_of_code() -> list[dict[str, Any]]:
    return [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]


def execute(cell: dict[str, Any], namespace: dict[str, Any]) -> Any:
    """Run a cell as Jupyter does: what its last line says, if it is an expression, is its output."""
    tree = ast.parse("".join(cell["source"]))
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, NOTEBOOK.name, "exec"), namespace)
    if last is None:
        return None
    assert isinstance(last, ast.Expr)
    return eval(compile(ast.Expression(last.value), NOTEBOOK.name, "eval"), namespace)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sweep") / "staleness"
    small = ["--world", "analytic", "--requests", "40", "--seed", "0", "--policies", POLICIES]
    done = CliRunner().invoke(app, ["sweep", "staleness", *small, "--out", str(out)])
    assert done.exit_code == 0, done.output
    return out


@pytest.fixture
def executed(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[dict[str, Any], list[Any]]]:
    """The notebook's names and the outputs of its cells, run in its own folder."""
    monkeypatch.chdir(NOTEBOOK.parent)
    monkeypatch.setenv("NETKV_SWEEP", str(sweep))
    monkeypatch.setattr(plt, "show", lambda: None)
    mpl.use("Agg")
    namespace: dict[str, Any] = {}
    yield namespace, [execute(cell, namespace) for cell in cells_of_code()]
    plt.close("all")


def moving(sweep: Path) -> pd.DataFrame:
    """The sweep's own table, but for the constant traffic beside."""
    table = pd.read_csv(sweep / "staleness.csv")
    return table[table["congestion"] != "constant"]


def test_its_figure_has_a_line_for_each_policy_of_the_sweep(
    executed: tuple[dict[str, Any], list[Any]], sweep: Path
) -> None:
    namespace, _ = executed
    table = moving(sweep).sort_values("refresh_s")
    lines = {line.get_label(): line for line in namespace["axis"].get_lines()}
    assert list(lines) == ["Round-robin", "NetKV-Static", "NetKV-Full"]
    full = table[table["policy"] == "netkv_full"]
    assert lines["NetKV-Full"].get_xdata().tolist() == pytest.approx(full["refresh_s"].tolist())
    assert lines["NetKV-Full"].get_ydata().tolist() == pytest.approx(full["ttft_ms"].tolist())
    static = table[table["policy"] == "netkv_static"]
    assert list(lines["NetKV-Static"].get_ydata()) == pytest.approx([static["ttft_ms"].item()] * 2)


def test_its_tables_are_the_sweeps_own(executed: tuple[dict[str, Any], list[Any]], sweep: Path) -> None:
    folder, means, results, _ = executed[1]
    assert folder == sweep
    assert len(means) == 5
    table = moving(sweep)
    assert results["ttft_ms"].tolist() == pytest.approx(table["ttft_ms"].tolist(), abs=0.005)


def test_it_is_kept_without_outputs() -> None:
    assert [cell for cell in cells_of_code() if cell["outputs"] or cell["execution_count"]] == []
