"""What a user can get wrong around a run. The command line turns each of these into one line and exit code 2."""

from __future__ import annotations


class SpecError(ValueError):
    """A specification that cannot be used; the message is one line naming the place."""


class StoreError(ValueError):
    """A run folder that cannot be written or read; the message names it."""


class ClusterError(RuntimeError):
    """A cluster that cannot be reached or cannot do the work; the message names it and, where there is one, the
    remedy."""
