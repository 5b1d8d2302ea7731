"""Why a request is not placed: no instance can hold it, its policy rejects it, or the policy is broken."""

from __future__ import annotations


class PolicyError(ValueError):
    """A policy that cannot be found or made, or that broke its contract; the message names it."""


class RejectedError(Exception):
    """A policy rejects a request; the message is the reason in its record. Policies raise it in `select`."""


class InfeasibleError(RejectedError):
    """No decode instance could ever hold the request; the message says why."""
