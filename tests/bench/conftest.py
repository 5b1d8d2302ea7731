"""What the benchmarks have in common: the ratios to their references, told at the end and kept in `ratios.json`.

What got slower than the kept ratios is named. New ratios are added to the file; `make bench ARGS=--keep` replaces those
that were measured.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.bench_ratios import Ratios

KEPT = Path(__file__).with_name("ratios.json")
RATIOS = pytest.StashKey[Ratios]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--keep", action="store_true", help="keep this run's ratios instead of the earlier ones")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RATIOS] = Ratios(KEPT)


@pytest.fixture
def ratios(request: pytest.FixtureRequest) -> Ratios:
    return request.config.stash[RATIOS]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    found = config.stash[RATIOS]
    if found.now:
        terminalreporter.section("ratios to references of the same run")
        for line in found.lines():
            terminalreporter.write_line(line)
        found.keep(all_of_them=config.getoption("keep"))
