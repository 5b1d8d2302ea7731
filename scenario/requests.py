"""The requests of a scenario: read from its trace or generated, and arranged in time."""

from __future__ import annotations

from dataclasses import replace

from scenario.specification import Scenario
from workloads import Request, WorkloadError, arrange, generate, log_normal_lengths, read_trace

LONGEST_RUN_S = 1e7
"""Arrivals later than this (four months) are a mistaken unit, and would make the plan of background traffic endless."""


def load_requests(scenario: Scenario) -> list[Request]:
    """The requests of a scenario in order of arrival, numbered from 0. WorkloadError when the trace cannot be read.

    As many as `workload.requests` asks for, or as the trace holds of those that fit `max_input_tokens`.
    """
    spec = scenario.workload
    last = spec.first_request + spec.requests
    wanted = _wanted_requests(scenario, last)
    found = wanted[spec.first_request : last]
    if not found:
        limit = "" if spec.max_input_tokens is None else f" of at most {spec.max_input_tokens} input tokens"
        raise WorkloadError(
            f"workload: {spec.trace or spec.profile} has {len(wanted)} requests{limit},"
            f" so there is none from number {spec.first_request} on"
        )
    rate_rps = spec.rate_rps if spec.trace is None else None
    arranged = arrange(found, spec.arrival_mode, spec.speedup, scenario.rng("arrivals"), rate_rps)
    end_s = arranged[-1].timestamp_s
    if end_s > LONGEST_RUN_S:
        raise WorkloadError(f"workload: the last request would arrive after {end_s:.3g} s (limit {LONGEST_RUN_S:g} s)")
    cut = spec.max_output_tokens
    if cut is None:
        return arranged
    return [replace(request, output_length=min(request.output_length, cut)) for request in arranged]


def _wanted_requests(scenario: Scenario, count: int) -> list[Request]:
    """At least the first `count` requests that are not too long, where there are so many."""
    spec = scenario.workload
    longest = spec.max_input_tokens
    if spec.trace is not None:
        found = read_trace(spec.trace, limit=count if longest is None else None)
        return found if longest is None else [request for request in found if request.input_length <= longest]
    mean = spec.mean_input_tokens
    lengths = None if mean is None else log_normal_lengths(mean, spec.input_spread)
    for drawn in (count, 2 * count, 8 * count, 64 * count):
        found = generate(spec.profile, drawn, spec.rate_rps, scenario.rng("requests"), spec.sharing, lengths)
        found = found if longest is None else [request for request in found if request.input_length <= longest]
        if len(found) >= count:
            break
    return found
