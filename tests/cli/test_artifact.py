"""The page of claims and the target that tries everything: their commands exist, with all their options."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from experiments.cli import app
from experiments.running.machine import git_commit
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "reference" / "artifact.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))

CLAIMS = [row.split(" | ") for row in PAGE.splitlines() if row.startswith("| ") and row.count(" | ") == 3][1:]
COMMANDS = [command for row in CLAIMS for command in re.findall(r"`([^`]+)`", row[1])]
RECIPE = MAKEFILE.partition("\nkick-the-tires:")[2].partition("\n\n")[0]


def check_parses(words: list[str]) -> None:
    """Fails where a verb or an option of it does not exist, as the command line itself would."""
    command = get_command(app)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context("netkv", [*words], resilient_parsing=False).close()


def test_there_are_claims() -> None:
    assert len(CLAIMS) > 10
    assert all(row[2].strip().isdecimal() for row in CLAIMS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_a_claim_exists(command: str) -> None:
    first, *words = shlex.split(command)
    if first == "make":
        assert words[0] in TARGETS
    elif first == "python":
        assert (ROOT / words[1].replace(".", "/") / "__main__.py").is_file()
    else:
        assert first == "netkv"
        check_parses(words)


def test_what_kick_the_tires_runs_exists() -> None:
    runs = re.findall(r'"\$\(VENV\)/bin/netkv" (.+)', RECIPE)
    assert len(runs) >= 8
    for run in runs:
        check_parses(shlex.split(run.replace("$(TRIED)", "results")))


def test_an_unpacked_archive_knows_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever checkout it was unpacked into."""
    (tmp_path / "COMMIT").write_text("0123abcd\n")
    monkeypatch.setattr("experiments.running.machine.ROOT", tmp_path)
    git_commit.cache_clear()
    try:
        assert git_commit() == "0123abcd-unpacked"
    finally:
        git_commit.cache_clear()
