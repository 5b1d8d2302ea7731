"""What can go wrong in the analytic world, beyond the errors of the packages that it is built from."""

from __future__ import annotations


class SimulationError(RuntimeError):
    """A run that cannot be made; the message names the reason."""


class StuckError(SimulationError):
    """A run that makes no progress; the message names the time and the state."""
