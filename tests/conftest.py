"""The one option of our own: on what the live tests run.

    pytest -m live --emulation datapath=user --emulation rate_scale=5000

By itself they run on this machine's usual emulation: in the virtual machine on the kernel's datapath, elsewhere in
userspace. The facts that they assert are the same.
"""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--emulation", action="append", default=[], metavar="FIELD=VALUE", help="a field of the live tests' emulation"
    )
