"""The pages on policies: the tutorial's example runs as it stands, and every policy is in the reference."""

from __future__ import annotations

import json
import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from experiments.cli import app
from experiments.questions.regimes import PUBLIC
from scheduler import POLICIES, ROUTERS
from tests.support.paths import ROOT

REFERENCE = (ROOT / "docs" / "reference" / "policies.md").read_text(encoding="utf-8")
TUTORIAL = (ROOT / "docs" / "tutorial" / "first-policy.md").read_text(encoding="utf-8")


def test_the_tutorials_example_is_under_25_lines_and_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, comparison = re.findall(r"```python\n(.*?)```", TUTORIAL, re.DOTALL)
    assert len(source.splitlines()) < 25
    (tmp_path / "tutorial_policy.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    name = "tutorial_policy:Nearest"
    (setting,) = re.findall(r"--set policy_parameters\.nearest_policy:Nearest\.(limit=\S+)", TUTORIAL)
    arguments = ["--world", "analytic", "--requests", "30", "--out", str(tmp_path / "run")]
    command = ["run", "--policy", name, "--set", f"policy_parameters.{name}.{setting}", *arguments]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["spec"]["policy_parameters"] == {
        name: {"limit": 0.1}
    }
    requests = pd.read_parquet(tmp_path / "run" / "requests.parquet")
    assert (requests["status"] == "completed").all()
    assert (requests["tier"] == 1).mean() > 0.9  # the nearest, and hardly anybody is half full
    beside = tmp_path / "results" / "beside"
    policies = f"round_robin,netkv_full,{name}"
    command = ["sweep", "staleness", "--world", "analytic", "--requests", "30", "--policies", policies]
    done = CliRunner().invoke(app, [*command, "--out", str(beside)])
    assert done.exit_code == 0, done.output
    (tmp_path / "examples").mkdir()
    monkeypatch.chdir(tmp_path / "examples")
    with redirect_stdout(StringIO()) as said:
        exec(comparison.replace("nearest_policy:Nearest", name), {})
    assert re.fullmatch(r"[+-]\d+\.\d % \[[+-]\d+\.\d, [+-]\d+\.\d\]\n", said.getvalue())


@pytest.mark.parametrize("policy", sorted([*POLICIES, *ROUTERS]))
def test_every_policy_is_on_the_page(policy: str) -> None:
    assert f"`{policy}`" in REFERENCE


@pytest.mark.parametrize("policy", [name for name in PUBLIC if name != "random"])
def test_every_public_preset_is_pinned_to_its_source(policy: str) -> None:
    """A repository at a commit, an issue of one, or a paper; `random` is anybody's."""
    section = REFERENCE[REFERENCE.index("## Public presets and their sources") :]
    (row,) = [line for line in section.splitlines() if line.startswith("| `") and f"`{policy}`" in line.split("|")[1]]
    assert re.search(r"[\w-]+/[\w-]+ @ [0-9a-f]{7}\b|, issue \d+|arXiv \d{4}\.\d{5}", row.split("|")[2]), row
