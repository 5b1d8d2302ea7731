"""Invariants of time: each request's steps in order and adding up, and the limits of instances at every instant."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.checking.history import ABOVE_RATE, History, whole
from experiments.checking.reference_model import HOPS, Ints, prefill_s, step_s
from experiments.checking.violation import Floats, Said, Violation, differ, of_requests

Objects = NDArray[Any]

STEPS = (
    *("arrived", "prefill_start", "prefill_end", "decided", "room", "sent", "received", "admitted"),
    *("first_token", "last_token"),
)
"""The instants of a request in their order."""

STEPS_WITH_OVERLAP = ("arrived", "prefill_start", "decided", "room", "sent", *STEPS[6:])
"""The same where a transfer may begin during its prefill, which only has to end before the last byte is in."""

BURST_S = 0.02
"""Emulated: what a shaper's burst and the queue's last packets may take off a transfer, wall seconds."""

EVERY_PATH = 2**30
"""Stripes that reach every path however many there are."""

RELATIVE = 1e-9
"""Rounding of float64 in sums of a run's length."""


def times_in_order(history: History) -> Iterator[Violation]:
    """Arrival, prefill, decision, transfer, admission, first and last token of a request follow each other."""
    at = history.instants
    latest, name = at.arrived, np.full(len(at.arrived), STEPS[0], dtype=object)
    for step in (STEPS_WITH_OVERLAP if history.overlap else STEPS)[1:]:
        now_s = getattr(at, step)
        before_s, before = latest, name
        with np.errstate(invalid="ignore"):
            early = now_s < before_s - history.order_s
        yield from of_requests(
            history.numbers,
            early,
            _too_early(step, now_s, before, before_s),
        )
        known = ~np.isnan(now_s)
        latest, name = np.where(known, now_s, latest), np.where(known, step, name)
    if history.overlap:
        with np.errstate(invalid="ignore"):
            early = at.received < at.prefill_end - history.order_s
        named = np.full(len(latest), "prefill_end", dtype=object)
        yield from of_requests(history.numbers, early, _too_early("received", at.received, named, at.prefill_end))
    with np.errstate(invalid="ignore"):
        early = at.first_token < at.earliest_admitted - history.order_s
    yield from of_requests(
        history.numbers,
        early & np.isnan(at.admitted),
        lambda row: Said(f"first token at {at.first_token[row]:.6f} s", f"after {at.earliest_admitted[row]:.6f} s"),
    )


def times_add_up(history: History) -> Iterator[Violation]:
    """TTFT is queue + prefill + transfer + admission + a decode step; the rest of the answer is gaps of `tpot_ms`.

    With `serving.kv_admission` = `before_transfer` the wait for KV memory, `memory_wait_ms`, comes before the transfer.
    Between these lie messages: nothing in the analytic world, up to `LAG_S` each in the emulated one. A request that
    was tried once more may have lost any time between its prefill and the decision that counted.
    """
    at = history.instants
    kv_bytes = history.of_requests("kv_bytes")
    for earlier, later in (("prefill_start" if history.overlap else "prefill_end", "decided"), ("room", "sent")):
        before_s = getattr(at, earlier)
        if history.overlap and later == "sent":  # what moves nothing waits for the end of its prefill
            before_s = np.where(kv_bytes > 0, before_s, np.fmax(before_s, at.prefill_end))
        gap_s = getattr(at, later) - before_s
        with np.errstate(invalid="ignore"):
            long = (gap_s > history.lag_s) & ~(history.tried_again & (later == "decided"))
        yield from of_requests(
            history.numbers,
            long,
            _too_long(f"from {_words(earlier)} to {_words(later)}", gap_s, history.lag_s),
        )
    gaps = history.of_requests("output_length") - 1
    found, answer_ms = history.of_requests("tpot_ms"), (at.last_token - at.first_token) * 1e3
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = np.where(gaps > 0, answer_ms / gaps, np.nan)
    wrong = history.completed & ~np.isnan(found) & differ(found, expected, history.order_s * 1e3)
    yield from of_requests(
        history.numbers, wrong, lambda row: Said(f"tpot_ms {found[row]:.6f}", f"{expected[row]:.6f}")
    )
    alone = history.completed & (gaps == 0) & (np.abs(answer_ms) > history.order_s * 1e3)
    yield from of_requests(
        history.numbers,
        alone,
        lambda row: Said(
            f"last token {answer_ms[row]:g} ms after the first", "the same instant: an answer of one token"
        ),
    )


def prefill_time(history: History) -> Iterator[Violation]:
    """A prefill lasts as long as the model says; emulated, `LAG_S` longer at most."""
    found = history.of_requests("prefill_ms") / 1e3
    expected = _prefill_s(history)
    with np.errstate(invalid="ignore"):
        wrong = (found < expected - history.order_s) | (found > expected + history.lag_s)
    yield from of_requests(
        history.numbers,
        wrong,
        lambda row: Said(f"prefill_ms {found[row] * 1e3:.6f}", f"{expected[row] * 1e3:.6f}, no less"),
    )


def prefill_queue(history: History) -> Iterator[Violation]:
    """`serving.prefill` = `queue`: an instance begins a prompt when the one before is done, in order of arrival.

    `at_once`: no prompt waits, but for those that come anew. Emulated: the end that counts is the scheduled one, start
    + the model's time, and a message may take `LAG_S`. Where prefill instances have had prompts that come anew, those
    that were prefilled are held to one at a time, in any order.
    """
    at, prefill_id, lasts_s = history.instants, whole(history.requests, "prefill_id"), _prefill_s(history)
    if history.spec["serving"]["prefill"] == "at_once":
        waited = history.of_requests("queue_ms") / 1e3
        with np.errstate(invalid="ignore"):
            wrong = (waited > history.lag_s) & ~(history.lost_prefills & history.tried_again)
        yield from of_requests(
            history.numbers, wrong, lambda row: Said(f"queue_ms {waited[row] * 1e3:g}", "0: prefill starts at once")
        )
        return
    for instance in np.unique(prefill_id[prefill_id >= 0]).tolist():
        rows = np.flatnonzero((prefill_id == instance) & ~np.isnan(at.prefill_start))
        if history.lost_prefills:
            rows = rows[~np.isnan(at.prefill_end[rows])]
            rows = rows[np.argsort(at.prefill_start[rows], kind="stable")]
        for before, row in pairwise(rows.tolist()):
            free_s = at.prefill_start[before] + lasts_s[before]
            if at.prefill_start[row] < free_s - history.order_s:
                yield Violation(
                    f"request {history.numbers[row]}",
                    f"prefill start at {at.prefill_start[row]:.6f} s on h{instance}",
                    f"{free_s:.6f} s, when request {history.numbers[before]} is done, or later",
                    int(history.numbers[row]),
                )


def decode_steps(history: History) -> Iterator[Violation]:
    """Tokens come a decode step apart, and a step lasts as the model says for some batch within `serving.batch_slots`.

    Analytic: the first step lasts exactly as long as the batch then in place says; not in a run that lost a decode
    worker, whose records do not tell who was in its batch. While a worker hangs, its steps have no upper limit.
    """
    at, gaps = history.instants, history.of_requests("output_length") - 1
    steps = step_s(history.spec["model"], np.arange(1.0, history.spec["serving"]["batch_slots"] + 1))
    shortest, longest = float(steps.min()), float(steps.max())
    first_s, rest_s = at.first_token - at.earliest_admitted, at.last_token - at.first_token
    slack = np.inf if "worker_hung" in history.broken else history.lag_s
    for name, found, count in (("first step", first_s, np.ones(len(gaps))), ("steps after it", rest_s, gaps)):
        scale = RELATIVE * np.maximum(np.abs(at.last_token), 1.0)
        with np.errstate(invalid="ignore"):
            wrong = (found < count * shortest - slack - scale) | (found > count * longest + slack * (1 + count) + scale)
        yield from of_requests(
            history.numbers,
            wrong,
            _outside(name, found, count * shortest, count * longest),
        )
    if history.emulated or "decode_worker_killed" in history.broken or history.tried_again.any():
        return
    running = _running_at_admission(history)
    expected = step_s(history.spec["model"], np.maximum(running, 1).astype(float))
    wrong = (running > 0) & ~np.isnan(first_s) & differ(first_s, expected, history.order_s)
    yield from of_requests(
        history.numbers,
        wrong,
        lambda row: Said(f"first step of {first_s[row]:.6f} s", f"{expected[row]:.6f} s for {running[row]} running"),
    )


def batch_slots(history: History) -> Iterator[Violation]:
    """No decode instance runs more requests at once than `serving.batch_slots`."""
    limit = history.spec["serving"]["batch_slots"]
    yield from _within(history, np.ones(len(history.numbers)), limit, "requests in the batch", _joined_s(history))


def kv_memory(history: History) -> Iterator[Violation]:
    """The prompts and answers that a decode instance holds fit `serving.kv_memory_tokens`.

    Held is what is in its batch; with `serving.kv_admission` = `before_transfer` what is under way or waits, too.
    """
    limit = history.spec["serving"]["kv_memory_tokens"]
    before = history.spec["serving"]["kv_admission"] == "before_transfer"
    held_from_s = history.instants.room if before else _joined_s(history)
    yield from _within(history, _tokens(history), limit, "tokens of KV memory", held_from_s)


def memory_wait(history: History) -> Iterator[Violation]:
    """`before_transfer`: a transfer waits exactly until its decode instance has room, first come first served.

    Worked out anew from the decisions and the last tokens; not for emulated runs, in which a message tells the driver
    of room, nor for runs with requests that failed, whose hold on memory is not recorded.
    """
    serving, at = history.spec["serving"], history.instants
    decided = ~np.isnan(at.decided)
    if serving["kv_admission"] != "before_transfer" or history.emulated or not history.completed[decided].all():
        return
    decode_id, tokens = whole(history.requests, "decode_id"), _tokens(history)
    expected_s = at.decided.copy()
    for instance in np.unique(decode_id[decided]).tolist():
        rows = np.flatnonzero(decided & (decode_id == instance))
        rows = rows[np.argsort(at.decided[rows], kind="stable")]
        expected_s[rows] = _room_by_turns(
            at.decided[rows], tokens[rows], at.last_token[rows] - history.order_s, serving["kv_memory_tokens"]
        )
    yield from of_requests(
        history.numbers,
        decided & differ(at.room, expected_s, 2 * history.order_s),
        lambda row: Said(
            f"room for its KV at {at.room[row]:.6f} s", f"{expected_s[row]:.6f} s, when h{decode_id[row]} has it"
        ),
    )


def _room_by_turns(asked_s: Floats, tokens: Floats, left_s: Floats, limit: float) -> Floats:
    """When each request has its tokens, if none overtakes another; rows in the order in which they asked."""
    found = np.empty(len(asked_s))
    held: list[tuple[float, float]] = []  # heap: when it leaves, tokens
    used, turn_s = 0.0, -np.inf
    for row, wanted in enumerate(tokens.tolist()):
        turn_s = max(turn_s, float(asked_s[row]))
        while held and (held[0][0] <= turn_s or used + wanted > limit):
            free_s, freed = heapq.heappop(held)
            turn_s, used = max(turn_s, free_s), used - freed
        found[row] = turn_s
        used += wanted
        heapq.heappush(held, (float(left_s[row]), wanted))
    return found


def transfer_speed(history: History) -> Iterator[Violation]:
    """No transfer is faster than its narrowest link allows; one without bytes takes no time.

    With `serving.overlap` the rest of the bytes is not faster than that either, from the end of the prefill on.
    """
    moved = history.of_requests("kv_bytes")
    took_s = history.of_requests("kv_transfer_ms") / 1e3
    tiers = whole(history.requests, "tier").clip(0, 3)
    stripes = EVERY_PATH if history.spreads_evenly else history.spec["serving"]["stripes"]
    sending_s = moved * 8 / history.fabric.most_bps(tiers, stripes)
    at, shares = history.instants, (1.0, 1.0 - history.overlap)
    if history.emulated:
        fastest_s, least_rest_s = (share * sending_s / ABOVE_RATE - BURST_S / history.dilation for share in shares)
    else:
        fastest_s, least_rest_s = (share * sending_s + HOPS[tiers] * history.fabric.hop_latency_s for share in shares)
    with np.errstate(invalid="ignore"):
        wrong = (moved > 0) & (took_s < fastest_s * (1 - RELATIVE) - history.order_s)
        wrong |= (moved == 0) & (took_s != 0) & ~np.isnan(took_s)
        rest_s = at.received - at.prefill_end
        wrong |= (moved > 0) & (rest_s < least_rest_s * (1 - RELATIVE) - history.order_s)
    yield from of_requests(
        history.numbers,
        wrong,
        lambda row: Said(
            f"kv_transfer_ms {took_s[row] * 1e3:.6f}",
            f"{fastest_s[row] * 1e3:.6f} or more for {moved[row]:.0f} bytes at tier {tiers[row]}"
            if moved[row]
            else "0 for no bytes",
        ),
    )


def snapshot_age(history: History) -> Iterator[Violation]:
    """A decision uses a snapshot from before it, of the age it says; no younger than the delay of its delivery.

    Analytic, without loss or faults of telemetry: no older than an interval, a poll and the delay. Without telemetry
    the age is infinite.
    """
    oracle, table = history.spec["oracle"], history.decisions
    numbers_of = whole(table, "request_id")
    decided_s, age_s = (np.asarray(table[name], dtype=float) for name in ("decided_s", "oracle_age_ms"))
    age_s = age_s / 1e3
    youngest = float("inf") if oracle["source"] == "static" else float(oracle["delay_s"])
    oldest = float("inf")
    always = not oracle["loss"] and not any(kind.startswith("telemetry") for kind in history.broken)
    if not history.emulated and always and oracle["refresh_s"] != "never":
        oldest = oracle["refresh_s"] + oracle["poll_s"] + oracle["delay_s"]
    tolerance = history.order_s
    with np.errstate(invalid="ignore"):
        wrong = ~(age_s >= youngest - tolerance) | (np.isfinite(age_s) & (age_s > oldest + tolerance))
    yield from of_requests(
        numbers_of, wrong, lambda row: Said(f"oracle_age_ms {age_s[row] * 1e3:.6f}", _range_ms(youngest, oldest))
    )
    if "snapshot_s" not in table:
        return
    sampled_s = np.asarray(table["snapshot_s"], dtype=float)
    expected = np.where(np.isfinite(age_s), decided_s - age_s, np.nan)
    late = ~np.isnan(sampled_s) & (sampled_s > decided_s + tolerance)
    yield from of_requests(
        numbers_of,
        late | differ(sampled_s, expected, tolerance),
        lambda row: Said(f"snapshot_s {sampled_s[row]:.6f}", f"{expected[row]:.6f}, the decision's time less its age"),
    )


def _range_ms(low_s: float, high_s: float) -> str:
    if np.isinf(low_s):
        return "inf: oracle.source is static"
    return f"{low_s * 1e3:g} or more" if np.isinf(high_s) else f"{low_s * 1e3:g} to {high_s * 1e3:g}, or inf"


def _prefill_s(history: History) -> Floats:
    gpus = history.spec["fabric"]["gpus_per_instance"]
    return prefill_s(history.spec["model"], gpus, history.of_requests("input_length"))


def _tokens(history: History) -> Floats:
    return history.of_requests("input_length") + history.of_requests("output_length")


def _joined_s(history: History) -> Floats:
    """When each request joined its batch, or its first token where that is not recorded."""
    at = history.instants
    return np.where(np.isnan(at.admitted), at.first_token, at.admitted)


def _within(history: History, weight: Floats, limit: float, what: str, from_s: Floats) -> Iterator[Violation]:
    """The sum of `weight` over the requests at an instance stays within a limit whenever one comes.

    Certain are completed ones, each from its `from_s` to its last token. Two instants that the clock cannot tell apart
    count as leaving before joining.
    """
    at, decode_id = history.instants, whole(history.requests, "decode_id")
    joined_s = from_s + history.order_s
    left_s = at.last_token - history.order_s
    stays = history.completed & (left_s > joined_s) & (decode_id >= 0)
    for instance in np.unique(decode_id[stays]).tolist():
        rows = np.flatnonzero(stays & (decode_id == instance))
        by_start, by_end = rows[np.argsort(joined_s[rows], kind="stable")], rows[np.argsort(left_s[rows])]
        came = np.cumsum(weight[by_start])
        went = np.concatenate([[0.0], np.cumsum(weight[by_end])])
        inside = came - went[np.searchsorted(left_s[by_end], joined_s[by_start], "right")]
        for k in np.flatnonzero(inside > limit).tolist():
            number = int(history.numbers[by_start[k]])
            yield Violation(
                f"request {number}",
                f"{inside[k]:.0f} {what} of h{instance} at {joined_s[by_start[k]]:.6f} s",
                f"at most {limit}",
                number,
            )


def _running_at_admission(history: History) -> Ints:
    """How many requests are in the batch of each one's decode instance once it has joined; 0 where it never did."""
    at, decode_id = history.instants, whole(history.requests, "decode_id")
    running = np.zeros(len(decode_id), dtype=np.int64)
    joined = ~np.isnan(at.admitted)
    left_s = np.where(history.completed, at.last_token, np.inf)
    for instance in np.unique(decode_id[joined]).tolist():
        rows = np.flatnonzero(joined & (decode_id == instance))
        now_s = at.admitted[rows] + history.order_s
        came = np.searchsorted(np.sort(at.admitted[rows]), now_s, "right")
        running[rows] = came - np.searchsorted(np.sort(left_s[rows]), now_s, "right")
    return running


def _words(step: str) -> str:
    return step.replace("_", " ")


def _too_early(step: str, now_s: Floats, before: Objects, before_s: Floats) -> Callable[[int], Said]:
    return lambda row: Said(
        f"{_words(step)} at {now_s[row]:.6f} s", f"not before {_words(before[row])} at {before_s[row]:.6f} s"
    )


def _too_long(what: str, found_s: Floats, most_s: float) -> Callable[[int], Said]:
    return lambda row: Said(f"{found_s[row]:.6f} s {what}", f"at most {most_s:g} s")


def _outside(name: str, found_s: Floats, low_s: Floats, high_s: Floats) -> Callable[[int], Said]:
    return lambda row: Said(f"{name} of {found_s[row]:.6f} s", f"{low_s[row]:.6f} to {high_s[row]:.6f} s")
