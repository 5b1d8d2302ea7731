"""Folders and their reports that are read as text and shown in a browser: each is made once for both."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.report_folders import MadeReport, hostile_sweep, made_report, staleness_conditions, write_sweep


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds a sweep in both worlds."""
    folder = tmp_path_factory.mktemp("results")
    write_sweep(folder / "staleness", staleness_conditions(("emulated", "analytic")))
    return folder


@pytest.fixture(scope="session")
def report(results: Path) -> MadeReport:
    return made_report(results)


@pytest.fixture(scope="session")
def hostile_report(tmp_path_factory: pytest.TempPathFactory) -> MadeReport:
    """Of a sweep whose every text that a user could choose would run a script."""
    folder = tmp_path_factory.mktemp("hostile")
    hostile_sweep(folder / "sweep")
    return made_report(folder)
