"""The requests of a scenario: read from its trace or generated, and arranged in time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import islice

from scenario.specification import Scenario
from workloads import Request, Trace, WorkloadError, arrange, count_requests, generate, log_normal_lengths

LONGEST_RUN_S = 1e7
"""Arrivals later than this (four months) are a mistaken unit, and would make the plan of background traffic endless."""

MOST_COUNTED = 1_000_000
"""Requests of a longer trace are not all counted."""


@dataclass(frozen=True)
class Workload:
    """The requests of a scenario in order of arrival, numbered from 0. `notes`: what was decided about its trace, or
    looks wrong, a line each. `span_s`: time of the trace that they cover, seconds.

    `preceding`: the `workload.warm_requests` before them, numbered and timed from 0 on their own, so that the others
    are the same with and without them."""

    requests: list[Request]
    notes: tuple[str, ...]
    span_s: float
    preceding: list[Request] = field(default_factory=list)


def load_requests(scenario: Scenario) -> list[Request]:
    """The requests of a scenario in order of arrival, numbered from 0. WorkloadError when the trace cannot be read.

    As many as `workload.requests` asks for, or as the trace holds of those that fit `max_input_tokens`.
    """
    return load_workload(scenario).requests


def load_workload(scenario: Scenario) -> Workload:
    """The requests of a scenario (`load_requests`), with what there is to say about them."""
    spec = scenario.workload
    before, found, notes, grid_s = _from_trace(scenario) if spec.trace is not None else _generated(scenario)
    rate_rps = spec.rate_rps if spec.trace is None else None
    model, cut = scenario.model, spec.max_output_tokens

    def service_s(request: Request) -> float:
        """From arrival to last token where nothing waits and the batch is full."""
        answer = request.output_length if cut is None else min(request.output_length, cut)
        prefill_s = model.prefill_s(request.input_length, scenario.fabric.gpus_per_instance)
        return prefill_s + answer * model.step_s(scenario.serving.batch_slots)

    def arrived(given: list[Request], stream: str) -> list[Request]:
        placed = arrange(given, spec.arrival_mode, spec.speedup, scenario.rng(stream), rate_rps, grid_s, service_s)
        if cut is None:
            return placed
        return [replace(request, output_length=min(request.output_length, cut)) for request in placed]

    arranged = arrived(found, "arrivals")
    preceding = arrived(before, "arrivals before") if before else []
    end_s = arranged[-1].timestamp_s
    if end_s > LONGEST_RUN_S:
        unit = "; set workload.time_unit if its stamps are in a smaller unit" if spec.trace is not None else ""
        raise WorkloadError(
            f"workload: the last request would arrive after {end_s:.3g} s (limit {LONGEST_RUN_S:g} s){unit}"
        )
    if spec.arrivals == "jitter" and not grid_s:
        source = spec.trace or spec.profile
        notes.append(f"{source}: its stamps lie on no grid: workload.arrivals=jitter leaves them as they are")
    return Workload(arranged, tuple(notes), end_s * spec.speedup, preceding)


def part_of_trace(scenario: Scenario, workload: Workload) -> str:
    """Which part of its trace a scenario replays, in a line; "" without a trace. Reads the trace once more."""
    spec = scenario.workload
    if spec.trace is None:
        return ""
    count, first = len(workload.requests), spec.first_request
    total = count_requests(spec.trace, MOST_COUNTED)
    whole = f"{total:,}" if total < MOST_COUNTED else f"{MOST_COUNTED:,} or more"
    limit = "" if spec.max_input_tokens is None else f" of at most {spec.max_input_tokens:,} input tokens"
    part = f"from number {first:,} on," if first else "the whole" if count == total else "the first"
    seconds = f"{workload.span_s:,.0f} s" if workload.span_s >= 10 else f"{workload.span_s:.3g} s"
    wished = "requests" in spec.model_fields_set and count < spec.requests
    asked = f" ({spec.requests:,} asked for: it holds no more)" if wished else ""
    return f"{spec.trace}: {count:,} of {whole} requests{limit}{asked}, {part} {seconds}"


Found = tuple[list[Request], list[Request], list[str], float]
"""Requests that warm the caches, the wanted ones, what was decided about them, and the step of their stamps' grid."""


def _from_trace(scenario: Scenario) -> Found:
    """Those of the trace."""
    spec = scenario.workload
    assert spec.trace is not None
    longest = spec.max_input_tokens
    with Trace(spec.trace, time_unit=spec.time_unit, block_tokens=spec.block_tokens) as trace:
        fitting = (request for request in trace if longest is None or request.input_length <= longest)
        skipped = sum(1 for _ in islice(fitting, max(spec.first_request - spec.warm_requests, 0)))
        before = list(islice(fitting, spec.first_request - skipped))
        found = list(islice(fitting, spec.requests))
        if not found:
            raise _none_from(scenario, skipped + len(before))
        return before, found, trace.notes(), trace.grid_s


def _generated(scenario: Scenario) -> Found:
    """Those of a profile, whose stamps lie on no grid."""
    spec = scenario.workload
    longest, mean = spec.max_input_tokens, spec.mean_input_tokens
    last = spec.first_request + spec.requests
    lengths = None if mean is None else log_normal_lengths(mean, spec.input_spread)
    for drawn in (last, 2 * last, 8 * last, 64 * last):
        found = generate(spec.profile, drawn, spec.rate_rps, scenario.rng("requests"), spec.sharing, lengths)
        found = found if longest is None else [request for request in found if request.input_length <= longest]
        if len(found) >= last:
            break
    wanted = found[spec.first_request : last]
    if not wanted:
        raise _none_from(scenario, len(found))
    return found[max(spec.first_request - spec.warm_requests, 0) : spec.first_request], wanted, [], 0.0


def _none_from(scenario: Scenario, count: int) -> WorkloadError:
    spec = scenario.workload
    limit = "" if spec.max_input_tokens is None else f" of at most {spec.max_input_tokens} input tokens"
    return WorkloadError(
        f"workload: {spec.trace or spec.profile} has {count} requests{limit},"
        f" so there is none from number {spec.first_request} on"
    )
