"""What reaches the terminal: colours only where they are wanted, and one line with --quiet."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from experiments.cli import app
from experiments.planning.finding import Finding

FINDINGS = [
    Finding("root", True, "yes"),
    Finding("kernel: sch_netem", True, "absent, needed only for link_delay_ms", absent=True),
    Finding("tc", False, "missing", "./provision.sh"),
]
PLAIN = """\
ok      root                 yes
-       kernel: sch_netem    absent, needed only for link_delay_ms
missing tc                   missing  ->  ./provision.sh
"""
QUIET_RUN = "6 completed, 0 failed, 0 rejected; mean TTFT "


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that lacks what is needed, and what is not."""
    monkeypatch.setattr("experiments.planning.examine", lambda: FINDINGS)
    monkeypatch.setattr("experiments.planning.foreign_packages", list)
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


@pytest.mark.usefixtures("machine")
def test_what_is_absent_and_not_needed_is_neither_ok_nor_missing() -> None:
    said = CliRunner().invoke(app, ["doctor"])
    assert (said.exit_code, said.output) == (1, PLAIN)


@pytest.mark.usefixtures("machine")
def test_no_color_is_honoured_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # Rich then takes its output for a terminal
    assert "\x1b[32mok" in CliRunner().invoke(app, ["doctor"], color=True).output
    monkeypatch.setenv("NO_COLOR", "1")
    assert CliRunner().invoke(app, ["doctor"], color=True).output == PLAIN


def test_a_sentence_is_one_line_for_a_program_and_a_figure_is_named(tmp_path: Path) -> None:
    figure = tmp_path / "fabric.png"
    said = CliRunner().invoke(app, ["plan", "--figure", str(figure)]).output.splitlines()
    assert said[0].startswith("64 GPUs: ")
    assert said[0].endswith("4 core")
    assert said[-1] == f"figure: {figure}"


def test_the_usage_of_a_sweep_is_a_line_and_its_questions_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    said = CliRunner().invoke(app, ["sweep", "--help"]).output
    assert "sweep [OPTIONS] {QUESTION}\n" in said
    assert "What is varied: staleness," in " ".join(said.split())


def test_a_quiet_run_says_one_line(tmp_path: Path) -> None:
    out = tmp_path / "run"
    said = CliRunner().invoke(app, ["run", "--world", "analytic", "--requests", "6", "--out", str(out), "--quiet"])
    assert said.exit_code == 0
    assert said.output.startswith(f"{out}: {QUIET_RUN}")
    assert said.output.endswith("; valid\n")
    assert len(said.output.splitlines()) == 1


def test_a_quiet_sweep_says_one_line(tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    small = ("--world", "analytic", "--requests", "6", "--seed", "0", "--policies", "round_robin,netkv_full")
    said = CliRunner().invoke(app, ["sweep", "prefix", *small, "--out", str(out), "--quiet"])
    assert said.exit_code == 0
    runs = len(list((out / "runs").iterdir()))
    assert said.output == f"{out}: {runs} runs\n"
    assert (out / "prefix.csv").is_file()
