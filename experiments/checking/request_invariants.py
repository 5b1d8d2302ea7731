"""Invariants of what became of each request and of what was decided about it, times aside."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from experiments.checking.history import History, numbers, whole
from experiments.checking.reference_model import BLOCK_TOKENS
from experiments.checking.violation import Floats, Said, Violation, differ, of_requests

FATES = ("completed", "failed", "rejected")

TIMES = (*("queue_ms", "prefill_ms", "kv_transfer_ms", "admission_ms", "ttft_ms", "e2el_ms"),)
"""What a completed request has; all of them are finite and none is negative."""

SAME = (
    *("prefill_id", "decode_id", "tier", "cached_tokens", "kv_bytes"),
    *("predicted_kv_transfer_ms", "oracle_age_ms", "decision_us"),
)
"""The columns that a decision and its request share."""


def request_ids(history: History) -> Iterator[Violation]:
    """Requests are numbered 0 to n - 1 in order of arrival, each once, n no more than the specification asks for."""
    found = history.numbers
    expected = np.arange(len(found))
    yield from of_requests(
        found, found != expected, lambda row: Said(f"it in row {row} of requests.parquet", f"request {row} there")
    )
    arrived = history.of_requests("timestamp_s")
    early = np.concatenate([[False], ~(np.diff(arrived) >= 0)]) if len(arrived) else np.zeros(0, bool)
    yield from of_requests(
        found,
        early | ~(arrived >= 0),
        lambda row: Said(f"arrival at {arrived[row]:g} s", "0 s or later, and not before the request ahead of it"),
    )
    asked = history.spec["workload"].get("requests")
    if asked is not None and len(found) > asked:
        yield Violation("requests.parquet", f"{len(found)} requests", f"at most {asked} (workload.requests)")


def one_end(history: History) -> Iterator[Violation]:
    """Every request has completed, failed or been rejected, and has a reason exactly where it has not completed.

    Emulated: one whose answer came, but whose sender never reported, stays completed and has a reason, too.
    """
    status = history.requests["status"].astype(object)
    error = history.requests["error"].fillna("").astype(str)
    known = status.isin(FATES).to_numpy(dtype=bool)
    yield from of_requests(
        history.numbers, ~known, lambda row: Said(f"status {status[row]!r}", f"one of {', '.join(FATES)}")
    )
    silent = (error == "").to_numpy(dtype=bool)
    whole_answer = history.completed & ~history.unreported
    yield from of_requests(
        history.numbers,
        known & (whole_answer != silent),
        lambda row: Said(
            f"status {status[row]} with error {error[row]!r}", "no error" if whole_answer[row] else "a reason"
        ),
    )
    policy = history.requests["policy"].astype(object)
    yield from of_requests(
        history.numbers,
        (policy != history.spec.get("policy")).to_numpy(dtype=bool),
        lambda row: Said(f"policy {policy[row]!r}", repr(history.spec.get("policy"))),
    )


def times_known(history: History) -> Iterator[Violation]:
    """A completed request has every time, and none is negative; one that did not complete has no last token.

    Emulated: `kv_transfer_ms` is missing where the sender never reported (see `one_end`).
    """
    for column in TIMES:
        values = history.of_requests(column)
        wrong = history.completed & ~np.isfinite(values)
        if column == "kv_transfer_ms":
            wrong &= ~history.unreported
        with np.errstate(invalid="ignore"):
            wrong |= values < -history.order_s * 1e3
        yield from of_requests(history.numbers, wrong, _says(column, values, "a time that is known and not negative"))
    last = history.of_requests("e2el_ms")
    yield from of_requests(
        history.numbers, ~history.completed & ~np.isnan(last), _says("e2el_ms", last, "none: it did not complete")
    )
    alone = history.of_requests("output_length") == 1
    gap = history.of_requests("tpot_ms")
    yield from of_requests(
        history.numbers,
        history.completed & (np.isnan(gap) != alone),
        _says("tpot_ms", gap, "NaN exactly where the answer has one token"),
    )


def one_decision(history: History) -> Iterator[Violation]:
    """decisions.parquet has one row for each request with a decode instance, and no other; completed ones have one."""
    numbers_of = whole(history.decisions, "request_id")
    chosen = whole(history.requests, "decode_id") >= 0
    rows = pd.Series(numbers_of).value_counts()
    counted = rows.reindex(history.numbers, fill_value=0).to_numpy()
    yield from of_requests(
        history.numbers,
        counted != chosen,
        lambda row: Said(f"{counted[row]} decisions", "one" if chosen[row] else "none: no decode instance"),
    )
    strangers = ~np.isin(numbers_of, history.numbers)
    yield from of_requests(numbers_of, strangers, lambda _: Said("a decision", "none: there is no such request"))
    yield from of_requests(
        history.numbers, history.completed & ~chosen, lambda _: Said("completed", "a decode instance that served it")
    )


def decision_agrees(history: History) -> Iterator[Violation]:
    """A request and its decision say the same of instances, tier, tokens, bytes, prediction and telemetry."""
    there = ~np.isnan(numbers(history.decided, "decode_id"))
    for column in SAME:
        asked, told = numbers(history.requests, column), numbers(history.decided, column)
        yield from of_requests(
            history.numbers, there & differ(asked, told, 0.0), _says(column, asked, "{:g} as decided", told)
        )


def roles(history: History) -> Iterator[Violation]:
    """The prefill and the decode instance have these roles by `serving.placement`, and exist."""
    placement = str(history.spec["serving"]["placement"])
    if history.fabric.prefills(np.arange(1), placement) is None:
        return  # a placement of a later version
    for column, role in (("prefill_id", True), ("decode_id", False)):
        chosen = whole(history.requests, column)
        exists = (chosen >= 0) & (chosen < history.fabric.instances)
        prefills = history.fabric.prefills(np.where(exists, chosen, 0), placement)
        wrong = (chosen != -1) & ~(exists & (prefills == role))
        kind = "prefill" if role else "decode"
        yield from of_requests(
            history.numbers, wrong, _says(column, chosen.astype(float), f"a {kind} instance of placement {placement}")
        )


def tier(history: History) -> Iterator[Violation]:
    """The tier is the distance of the two instances in the fabric; -1 where no decode instance was chosen."""
    source, target = whole(history.requests, "prefill_id"), whole(history.requests, "decode_id")
    expected = np.where(target >= 0, history.fabric.tier(source, target), -1).astype(float)
    found = history.of_requests("tier")
    yield from of_requests(
        history.numbers,
        differ(found, expected, 0.0),
        lambda row: Said(f"tier {found[row]:g}", f"{expected[row]:g} from h{source[row]} to h{target[row]}"),
    )


def kv_bytes(history: History) -> Iterator[Violation]:
    """KV bytes are (prompt - cached tokens) x bytes a token; the whole prompt where `serving.transfer` is `full`."""
    tokens = history.of_requests("input_length")
    if history.spec["serving"]["transfer"] == "missing":
        tokens = tokens - history.of_requests("cached_tokens")
    chosen = whole(history.requests, "decode_id") >= 0
    expected = np.where(chosen, tokens * history.spec["model"]["kv_bytes_per_token"], 0.0)
    found = history.of_requests("kv_bytes")
    wrong = differ(found, expected, 0.5 + np.abs(expected) * 1e-12)  # whole bytes
    yield from of_requests(history.numbers, wrong, _says("kv_bytes", found, "{:.0f}", expected))
    told = history.evidence.get("kv_bytes")
    total = numbers(history.decisions, "kv_bytes").sum()
    if told is not None and told != total:
        yield Violation("manifest.json", f"evidence.kv_bytes {told}", f"{total:.0f}, the sum of the decisions")


def cached_tokens(history: History) -> Iterator[Violation]:
    """Cached tokens are part of the prompt, fit the prefix cache, and came with an earlier request to that instance.

    The longest prompt received there before the decision bounds them, in whole blocks where their size is known, or
    what the instance held at t = 0 where caches were warmed.
    """
    cached, tokens = history.of_requests("cached_tokens"), history.of_requests("input_length")
    limit = float(history.spec["serving"]["prefix_cache_tokens"])
    yield from of_requests(
        history.numbers,
        ~((cached >= 0) & (cached <= tokens) & (cached <= limit)),
        lambda row: Said(f"{cached[row]:g} cached tokens", f"0 to {min(tokens[row], limit):g}"),
    )
    longest = _longest_before(history)
    workload = history.spec["workload"]
    block = workload.get("block_tokens") or (BLOCK_TOKENS if workload.get("trace") is None else None)
    reach = np.where(longest > 0, np.ceil(longest / block) * block if block else np.inf, 0.0)
    held_first = (history.evidence.get("warm_caches") or {}).get("tokens", {})
    at_start = [float(held_first.get(str(decode_id), 0)) for decode_id in whole(history.requests, "decode_id")]
    reach = np.maximum(reach, at_start)
    again = np.where(history.tried_again, tokens, 0.0).max(initial=0.0)  # may have arrived elsewhere before
    reach = np.maximum(reach, np.ceil(again / block) * block if block else again)
    yield from of_requests(
        history.numbers,
        (cached > reach) & (cached <= tokens),
        lambda row: Said(f"{cached[row]:g} cached tokens", f"at most {reach[row]:g}, which its decode instance had"),
    )


def _longest_before(history: History) -> Floats:
    """The longest prompt that the decode instance of each request had received when it was chosen, tokens."""
    at = history.instants
    received = at.earliest_received
    decode_id, tokens = whole(history.requests, "decode_id"), history.of_requests("input_length")
    longest = np.zeros(len(decode_id))
    for instance in np.unique(decode_id[decode_id >= 0]):
        there = np.flatnonzero((decode_id == instance) & ~np.isnan(received))
        order = there[np.argsort(received[there], kind="stable")]
        most = np.concatenate([[0.0], np.maximum.accumulate(tokens[order])])
        asking = np.flatnonzero(decode_id == instance)
        known = np.searchsorted(received[order], at.decided[asking] + history.order_s, "right")
        longest[asking] = most[known]
    return longest


def _says(column: str, found: Floats, expected: str, values: Floats | None = None) -> Callable[[int], Said]:
    def say(row: int) -> Said:
        return Said(f"{column} {found[row]:.10g}", expected if values is None else expected.format(values[row]))

    return say
