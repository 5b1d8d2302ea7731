"""What can keep a request from being placed: nobody can take it, its policy turns it away, or the policy is broken."""

from __future__ import annotations


class PolicyError(ValueError):
    """A policy that cannot be found or made, or that broke its contract; the message names it."""


class RejectedError(Exception):
    """A policy turns a request away; the message is the reason that its record keeps. Policies raise it in `select`."""


class InfeasibleError(RejectedError):
    """No decode instance could ever hold the request; the message says why."""
