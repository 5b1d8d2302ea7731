"""What the tests of other people's routers and engines stand on: all that `make routers` installs, in its versions."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version

import pytest

from tests.support.paths import ROOT

PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;]+)", re.MULTILINE)


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "nothing"


@pytest.fixture(scope="session", autouse=True)
def everything_is_installed() -> None:
    """An installation that is not finished, or of another lock, is a failure and says what is missing."""
    pins = [pin for lock in ("routers.lock", "engines.lock") for pin in PIN.findall((ROOT / lock).read_text())]
    wrong = [f"{name}: {found} instead of {want}" for name, want in pins if (found := installed(name)) != want]
    assert pins
    assert not wrong, f"half installed, `make routers` mends it: {'; '.join(wrong)}"
