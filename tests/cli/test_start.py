"""A fast start: what a command imports, and the names that help and completion know without importing them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from typer.testing import CliRunner

from experiments.cli import app
from experiments.exporting import EXPORTS
from experiments.planning import OBJECTIVES
from experiments.questions import QUESTIONS
from experiments.running.run_spec import World
from experiments.verbs import choices
from scenario import CongestionSpec
from scheduler import POLICIES, ROUTERS

LOADED = """
import atexit, json, sys
atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))
sys.argv[0] = "netkv"
from experiments.cli import main
main()
"""

HEAVY = {"pandas", "scipy", "numba", "scapy", "matplotlib", "numpy", "yaml", "rich", "pyarrow", "mininet"}
NOT_FOR_AN_ANALYTIC_RUN = {
    *("pandas", "scipy.linalg", "scipy.special", "matplotlib", "plotly", "scapy", "distributed", "mininet", "cffi"),
    *("testbed.emulated_world", "testbed.verdict"),
}


def modules_after(*arguments: str, code: int = 0) -> set[str]:
    """What a process has imported that ran this command."""
    done = subprocess.run([sys.executable, "-c", LOADED, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_help_imports_nothing_heavy() -> None:
    assert modules_after("--help") & {*HEAVY, "pydantic"} == set()


@pytest.mark.parametrize(
    "arguments",
    [(verb.callback.__name__, "--help") for verb in app.registered_commands if verb.callback],
    ids=" ".join,
)
def test_help_on_a_verb_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    """Typer reads options with pydantic."""
    assert modules_after(*arguments) & HEAVY == set()


@pytest.mark.parametrize("arguments", [("fly",), ("--speed",), ("run", "--speed")], ids=" ".join)
def test_bad_usage_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    assert modules_after(*arguments, code=2) & HEAVY == set()


def test_an_analytic_run_imports_no_more_than_it_needs(tmp_path: Path) -> None:
    loaded = modules_after("run", "--world", "analytic", "--requests", "3", "--out", str(tmp_path / "run"))
    assert loaded & NOT_FOR_AN_ANALYTIC_RUN == set()


def test_no_folder_for_captures_is_made_unless_they_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("tempfile.TemporaryDirectory")
    arguments = ["run", "--world", "analytic", "--requests", "3", "--out", str(tmp_path / "run")]
    assert CliRunner().invoke(app, arguments).exit_code == 0


def test_the_names_of_options_are_those_of_the_things_themselves() -> None:
    assert list(POLICIES) == list(choices.POLICIES)
    assert list(ROUTERS) == list(choices.ROUTERS)
    assert list(QUESTIONS) == list(choices.QUESTIONS)
    assert get_args(CongestionSpec.model_fields["kind"].annotation) == choices.CONGESTION_KINDS
    assert get_args(World) == choices.WORLDS
    assert {name for question in QUESTIONS.values() for name in question.profiles} == set(choices.PROFILES)
    assert OBJECTIVES == choices.TUNING_OBJECTIVES
    assert tuple(EXPORTS) == choices.EXPORTS


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("netkv run --policy netkv_", ["netkv_topo_only", "netkv_static", "netkv_full", "netkv_fresh"]),
        ("netkv run --world a", ["analytic"]),
        ("netkv run --congestion ", list(choices.CONGESTION_KINDS)),
        ("netkv sweep sta", ["staleness", "staleness_map"]),
        ("netkv sweep staleness --policies cla,netkv_f", ["cla,netkv_full", "cla,netkv_fresh"]),
        ("netkv sweep staleness --world b", ["both"]),
        ("netkv tune --objective mean_t", ["mean_ttft_ms"]),
        ("netkv pl", ["plan"]),
    ],
)
def test_the_shell_completes(words: str, offered: list[str]) -> None:
    netkv = Path(sys.executable).with_name("netkv")
    asked = {"_NETKV_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = subprocess.run([netkv], env={**os.environ, **asked}, capture_output=True, text=True, check=False)
    assert done.stdout.split() == offered, done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_can_be_shown(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    shown = CliRunner().invoke(app, ["--show-completion", shell])
    assert shown.exit_code == 0
    assert "_NETKV_COMPLETE" in shown.stdout or "_netkv_completion" in shown.stdout.lower()
