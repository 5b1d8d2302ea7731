"""Errors of the emulated world; each message is one line."""

from __future__ import annotations


class TestbedError(RuntimeError):
    """Something that the testbed needs is missing, refused or late; the message names it and the remedy."""

    __test__ = False  # the name is not that of a test class


class BrokenRunError(TestbedError):
    """Something that a run cannot do without broke, in its bring-up or later: the sandbox, its fabric, its machine."""
