"""What the scheduler's tests share."""

from __future__ import annotations

import pytest

from scenario import Scenario
from scheduler import Dispatcher


@pytest.fixture(scope="session", autouse=True)
def compiled_code() -> None:
    """Compile, or read from disk, what a first decision needs, so that no test has to wait for it."""
    scenario = Scenario()
    Dispatcher(scenario, *scenario.build())
