"""SIGHUP for a process under test, whatever the tests themselves were started by: nohup(1) has it ignored."""

from __future__ import annotations

import signal


def hears_hangups() -> None:
    """To be called in the child (`preexec_fn`): SIGHUP has its usual effect again."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
