"""The one option of our own: on what the live tests run.

    pytest -m live --emulation datapath=user --emulation rate_scale=5000

By itself they run on this machine's usual emulation: in the virtual machine on the kernel's datapath, elsewhere in
userspace. The facts that they assert are the same.
"""

import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

from tests.support.command_line import cli_server
from tests.support.live import machine
from tests.support.paths import ROOT

# No test measures wall time: a first call compiles, and the machine may be busy. Continuous integration draws the same
# examples each time; elsewhere each run draws new ones, and a failure prints the line that draws it again.
settings.register_profile("local", deadline=None, print_blob=True)
settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

# Children look for a test's policy in `tests`; a dependency of Ryu's installs a package of that name, too.
os.environ["PYTHONPATH"] = str(ROOT)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--emulation", action="append", default=[], metavar="FIELD=VALUE", help="a field of the live tests' emulation"
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    if config.getvalue("dist") != "loadgroup":
        return None
    from tests.support.processor_groups import GroupScheduling

    return GroupScheduling(config, log)


@pytest.fixture(scope="session")
def server() -> Iterator[subprocess.Popen[str]]:
    """`netkv` in a process that has imported it already, for `CommandLine`."""
    with cli_server() as process:
        yield process


@pytest.fixture(scope="session")
def live_machine() -> None:
    """A machine that can run live tests."""
    machine.require()
