"""Selects the OpenFlow framework, Ryu or os-ken, and applies the patch that Ryu needs to start.

Imports neither framework: the launcher chooses before a framework's manager patches the process.
"""

from __future__ import annotations

import os
import sys
import warnings
from importlib import import_module

ENVIRONMENT_VARIABLE = "NETKV_OPENFLOW"
DRIVERS = ("ryu", "os_ken")


class DriverError(ValueError):
    """NETKV_OPENFLOW names an unknown driver."""


def chosen_driver() -> str:
    """The driver that `NETKV_OPENFLOW` names, else that of the running manager, else Ryu. DriverError if unknown."""
    running = "os_ken" if "os_ken.cmd.manager" in sys.modules else "ryu"
    driver = os.environ.get(ENVIRONMENT_VARIABLE) or running
    if driver not in DRIVERS:
        raise DriverError(f"{ENVIRONMENT_VARIABLE}: {driver!r} is not one of {', '.join(DRIVERS)}")
    return driver


def prepare(driver: str) -> None:
    """Make `driver` importable; call it before any import of its modules.

    Ryu 4.34's application manager always imports its web server, which reads `eventlet.wsgi.ALREADY_HANDLED`, a
    sentinel that eventlet dropped in 0.30.3. Nothing here starts that server.
    """
    warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
    wsgi = import_module("eventlet.wsgi")
    if driver == "ryu" and not hasattr(wsgi, "ALREADY_HANDLED"):
        wsgi.ALREADY_HANDLED = object()  # type: ignore[attr-defined]
