"""What can go wrong in the analytic world, beyond the errors of the rooms that it is built from."""

from __future__ import annotations


class SimulationError(RuntimeError):
    """A run that cannot go on; the message says at what time and in which state."""
