"""What docs/how-to/explain.md prints of a decision is what its commands print."""

from __future__ import annotations

import re
from pathlib import Path

from typer.testing import CliRunner

from experiments.cli import app
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "how-to" / "explain.md").read_text(encoding="utf-8")


def printed(command: str, out: Path) -> str:
    """The words that a command of the page prints, for a run that is elsewhere."""
    done = CliRunner().invoke(app, command.replace("results/run", str(out)).split()[1:])
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


def shown(command: str) -> str:
    """The words of the indented lines below a command on the page."""
    below = PAGE.partition(f"    {command}\n")[2]
    found = re.match(r"(?:    .*\n|\n)+", below)
    assert found, f"nothing is shown below `{command}`"
    return " ".join(found[0].split())


def test_the_example_comes_out_again(tmp_path: Path) -> None:
    run, *explain = re.findall(r"^    (netkv (?:run|explain) .*)$", PAGE, re.MULTILINE)
    assert len(explain) == 2
    out = tmp_path / "run"
    printed(run, out)
    for command in explain:
        assert printed(command, out) == shown(command)
