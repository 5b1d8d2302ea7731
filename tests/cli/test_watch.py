"""`netkv run --watch` as a user meets it: on a terminal (a pseudo-terminal here) and without one."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from experiments.cli import app
from experiments.watching import live_run
from tests.support.command_line import CommandLine, refused
from tests.support.paths import ROOT

WITHOUT_PAUSES = (
    *(sys.executable, "-c"),
    "from experiments import cli; from experiments.watching import live_run; live_run.FRAME_S = 0.0; cli.main()",
)
"""A run whose every frame is drawn, but not for long enough that anybody could see it."""

RUN = ("run", "--world", "analytic", "--requests", "40", "--set", "workload.max_output_tokens=32", "--watch")
DEADLINE_S = 120.0
COLOURS = re.compile(r"\x1b\[(?:[0-9;]*;)?[34][0-9](?:;[0-9;]*)?m")
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_a_terminal(*command: str) -> tuple[int, str]:
    """Exit code and everything that a terminal of 100 columns got. TimeoutError at the deadline."""
    ours, its = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "45"}
    environment.pop("CI", None)
    process = subprocess.Popen(command, cwd=ROOT, stdin=its, stdout=its, stderr=its, env=environment)
    os.close(its)
    got, until_s = b"", time.monotonic() + DEADLINE_S
    try:
        while time.monotonic() < until_s:
            if not select.select([ours], [], [], 1.0)[0]:
                continue
            try:
                chunk = os.read(ours, 1 << 16)
            except OSError:  # the other end is closed (pty(7))
                chunk = b""
            if not chunk:
                return process.wait(timeout=DEADLINE_S), got.decode()
            got += chunk
        raise TimeoutError(got.decode()[-2000:])
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.mark.slow
def test_a_terminal_gets_a_screen_that_changes(tmp_path: Path) -> None:
    code, text = on_a_terminal(*WITHOUT_PAUSES, *RUN, "--requests", "12", "--out", str(tmp_path / "run"))
    assert code == 0, text
    assert "\x1b[3" in text  # colours
    assert "\x1b[1A" in text  # drawn over itself
    shown = ESCAPE.sub("", text)
    assert len(set(re.findall(r"netkv_full in the analytic world +([\d.]+) s", shown))) > 20
    for words in ("busiest links", "transfers in flight", "snapshot", "ToR to server", "round_robin", "results: "):
        assert words in shown
    assert text.rstrip().count("\x1b[?25l") == text.count("\x1b[?25h")  # the cursor is back
    assert (tmp_path / "run" / "summary.json").is_file()


def test_no_color_is_honoured_and_every_frame_stays_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses_s: list[float] = []
    monkeypatch.setattr(live_run, "time", SimpleNamespace(sleep=pauses_s.append))
    monkeypatch.setattr(live_run, "LOOKS", 20)
    monkeypatch.setenv("FORCE_COLOR", "1")  # Rich then takes its output for a terminal
    monkeypatch.setenv("TERM", "xterm-256color")
    coloured = CliRunner().invoke(app, [*RUN, "--out", str(tmp_path / "one")], color=True).output
    assert COLOURS.search(coloured)
    assert len(pauses_s) > 20
    assert set(pauses_s) == {live_run.FRAME_S}
    monkeypatch.setenv("NO_COLOR", "1")
    plain = CliRunner().invoke(app, [*RUN, "--out", str(tmp_path / "two")], color=True).output
    assert "busiest links" in plain
    assert COLOURS.search(plain) is None


@pytest.fixture
def netkv(server: subprocess.Popen[str], tmp_path: Path) -> CommandLine:
    return CommandLine(server, ROOT, tmp_path)


def test_without_a_terminal_there_are_lines(netkv: CommandLine, tmp_path: Path) -> None:
    done = netkv(*RUN, "--baseline", "cla", "--out", str(tmp_path / "run"))
    assert done.code == 0, done.err
    assert "\x1b" not in done.out
    lines = [line for line in done.out.splitlines() if " over" in line and "snapshot" in line]
    assert len(lines) >= 20
    assert re.search(r"TTFT \d+ ms, cla \d+ ms: [+-][\d.]+ % \(requests: \d+\)", lines[-1])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--quiet",), "--watch: it shows what --quiet leaves out"),
        (("--baseline", "nobody"), "'nobody'"),
    ],
)
def test_what_contradicts_is_refused(netkv: CommandLine, arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    assert said in refused(netkv(*RUN, *arguments, "--out", str(tmp_path / "run")))


def test_a_dry_run_writes_nothing(netkv: CommandLine, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = netkv("run", "--requests", "40", "--dry-run", "--out", str(out))
    assert done.code == 0, done.err
    assert re.fullmatch(r"netkv_full in the emulated world: 40 requests in [\d.]+ s; would write .*run\n", done.out)
    swept = netkv("sweep", "staleness", "--dry-run", "--out", str(out))
    assert swept.out.splitlines()[-1] == f"21 runs; would write {out}"
    assert not out.exists()
