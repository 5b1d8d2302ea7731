"""A child process runs our code, whatever lies in the folder that it is started in."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from testbed.child_python import child_python
from testbed.sandbox import python_in_sandbox
from tests.support.foreign_folders import fill


@pytest.mark.parametrize(
    ("module", "bare"),
    [("controller.launch", False), ("workers.prefill", True), ("workers.decode", True), ("workers.background", True)],
)
def test_a_child_runs_our_code_in_a_folder_with_the_names_of_ours(tmp_path: Path, module: str, bare: bool) -> None:
    command = child_python(module, "--help", bare=bare)
    done = subprocess.run(command, cwd=fill(tmp_path), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage: " in done.stdout


def test_a_bare_child_has_no_site_packages_and_ignores_the_environment(tmp_path: Path) -> None:
    command = child_python("workers.prefill", "--help", bare=True)
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(fill(tmp_path))}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_what_starts_in_a_sandbox_starts_in_the_same_way() -> None:
    started = child_python("testbed.sandbox_main", "an argument")
    assert python_in_sandbox("testbed.sandbox_main", "an argument")[-len(started) :] == started
