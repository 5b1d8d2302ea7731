"""What can go wrong in the emulated world, in one line each."""

from __future__ import annotations


class TestbedError(RuntimeError):
    """What the testbed needs is missing, refused or late; the message names it and, where there is one, the mend."""

    __test__ = False  # the name is not that of a test class
