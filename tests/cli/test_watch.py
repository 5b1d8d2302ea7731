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

import pytest
from typer.testing import CliRunner

from experiments.cli import app
from tests.support.paths import ROOT

NETKV = (sys.executable, "-m", "experiments.cli")
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
    code, text = on_a_terminal(*NETKV, *RUN, "--requests", "12", "--out", str(tmp_path / "run"))
    assert code == 0, text
    assert "\x1b[3" in text  # colours
    assert "\x1b[1A" in text  # drawn over itself
    shown = ESCAPE.sub("", text)
    assert len(set(re.findall(r"netkv_full in the analytic world +([\d.]+) s", shown))) > 20
    for words in ("busiest links", "transfers in flight", "snapshot", "ToR to server", "round_robin", "results: "):
        assert words in shown
    assert text.rstrip().count("\x1b[?25l") == text.count("\x1b[?25h")  # the cursor is back
    assert (tmp_path / "run" / "summary.json").is_file()


def test_no_color_is_honoured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.watching.live_run.FRAME_S", 0.0)
    monkeypatch.setenv("FORCE_COLOR", "1")  # Rich then takes its output for a terminal
    monkeypatch.setenv("TERM", "xterm-256color")
    coloured = CliRunner().invoke(app, [*RUN, "--out", str(tmp_path / "one")], color=True).output
    assert COLOURS.search(coloured)
    monkeypatch.setenv("NO_COLOR", "1")
    plain = CliRunner().invoke(app, [*RUN, "--out", str(tmp_path / "two")], color=True).output
    assert "busiest links" in plain
    assert COLOURS.search(plain) is None


def lines_of(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*NETKV, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )


def test_without_a_terminal_there_are_lines(tmp_path: Path) -> None:
    done = lines_of(*RUN, "--baseline", "cla", "--out", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    lines = [line for line in done.stdout.splitlines() if " over" in line and "snapshot" in line]
    assert len(lines) >= 20
    assert re.search(r"TTFT \d+ ms, cla \d+ ms: [+-][\d.]+ % \(requests: \d+\)", lines[-1])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--quiet",), "--watch: it shows what --quiet leaves out"),
        (("--baseline", "nobody"), "'nobody'"),
    ],
)
def test_what_contradicts_is_refused(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = lines_of(*RUN, *arguments, "--out", str(tmp_path / "run"))
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = lines_of("run", "--requests", "40", "--dry-run", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"netkv_full in the emulated world: 40 requests in [\d.]+ s; would write .*run\n", done.stdout)
    swept = lines_of("sweep", "staleness", "--dry-run", "--out", str(out))
    assert swept.stdout.splitlines()[-1] == f"19 runs; would write {out}"
    assert not out.exists()
