"""The example in docs/policies.md, run as it stands."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from experiments.cli import app
from scheduler import POLICIES
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "policies.md").read_text(encoding="utf-8")
EXAMPLE = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE, re.DOTALL)


def test_the_example_is_under_25_lines_and_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ((file_name, source),) = EXAMPLE
    assert len(source.splitlines()) < 25
    (tmp_path / file_name).write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    name, setting = re.findall(r"netkv run --policy (\S+) --set (\S+) --out DIR", PAGE)[0]
    arguments = ["--world", "analytic", "--requests", "30", "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(app, ["run", "--policy", name, "--set", setting, *arguments])
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["spec"]["policy_parameters"] == {
        name: {"limit": 0.5}
    }
    requests = pd.read_parquet(tmp_path / "run" / "requests.parquet")
    assert (requests["status"] == "completed").all()
    assert (requests["tier"] == 1).mean() > 0.9  # the nearest, and hardly anybody is half full


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_every_policy_is_on_the_page(policy: str) -> None:
    assert f"`{policy}`" in PAGE
