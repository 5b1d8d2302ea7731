"""Invariants of the network: the connections of each transfer, what links carried, and how full they were."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.checking.history import ABOVE_RATE, History, numbers, whole
from experiments.checking.violation import Floats, Said, Violation, differ, of_requests

HEADER_BYTES = 64
"""Emulated: no stripe has more than this before its payload, bytes on the wire."""

ENGINE_HEADER_BYTES = 24
"""Emulated, `serving.engine` other than `sockets`: before each of the writes into which the engine cuts a blob."""

POLLS = 2
"""Emulated: a counter is read this many poll intervals after the bytes, at most, beside `LAG_S`."""


def paths(history: History) -> Iterator[Violation]:
    """Each connection goes between the instances decided on, by one of their shortest paths, link by link."""
    table = history.paths
    if table is None:
        return
    fabric = history.fabric
    source, target = whole(table, "source"), whole(table, "target")
    tier, number = fabric.tier(source, target), whole(table, "path")
    same = differ(numbers(table, "tier"), tier.astype(float), 0.0)
    count = np.array([fabric.equal_paths(one) for one in tier.tolist()], dtype=float)
    same |= differ(numbers(table, "equal_paths"), count, 0.0)
    for row in np.flatnonzero(same).tolist():
        yield _connection(
            table,
            row,
            f"tier {table['tier'].iloc[row]} with {table['equal_paths'].iloc[row]} paths",
            f"tier {tier[row]} with {count[row]:.0f}",
        )
    crossed = [[str(link) for link in links] for links in table["links"]]
    for row, links in enumerate(crossed):
        known = 0 <= number[row] < count[row]
        expected = fabric.path(int(source[row]), int(target[row]), int(number[row])) if known else []
        if (not known and number[row] != -1) or links != expected:
            yield _connection(
                table, row, f"path {number[row]}: {' '.join(links) or 'no links'}", " ".join(expected) or "no links"
            )
    own = table[table["owner"] == "transfer"]
    decided = history.decisions.drop_duplicates("request_id").set_index("request_id").reindex(own["number"])
    for column, name in (("source", "prefill_id"), ("target", "decode_id"), ("started_s", "transfer_started_s")):
        found, told = numbers(own, column), numbers(decided, name)
        for row in np.flatnonzero(differ(found, told, history.order_s)).tolist():
            yield _connection(own, row, f"{column} {found[row]:g}", f"{told[row]:g}, as decided")


def paths_carry_kv(history: History) -> Iterator[Violation]:
    """The connections of a transfer carry its KV bytes together, one connection a stripe, each with its own port.

    A transfer engine opens its connections by itself: at least one, and at most one a stripe.
    Of every transfer whose sender has reported; one whose scaled bytes are none has no connections.
    """
    table = history.paths
    if table is None:
        return
    own = table[table["owner"] == "transfer"]
    by_request = own.groupby("number")
    carried = by_request["bytes"].sum()
    count, ports = by_request.size(), by_request["source_port"].nunique()
    numbers_of, moved = whole(history.decisions, "request_id"), numbers(history.decisions, "kv_bytes")
    reported = ~np.isnan(numbers(history.decisions, "wire_bytes"))
    expected = np.where(reported, moved, 0.0)
    found = carried.reindex(numbers_of, fill_value=0.0).to_numpy(dtype=float)
    wrong = differ(found, expected, 1e-6 * np.maximum(expected, 1.0))
    yield from of_requests(
        numbers_of, wrong, lambda row: Said(f"{found[row]:.0f} bytes in paths.parquet", f"{expected[row]:.0f}")
    )
    stripes = history.spec["serving"]["stripes"]
    wanted = np.where(reported, stripes, 0)
    there = count.reindex(numbers_of, fill_value=0).to_numpy()
    if _by_engine(history):
        wanted = np.clip(there, reported, wanted)
    yield from of_requests(numbers_of, there != wanted, _counted("connections", there, wanted))
    there = ports.reindex(numbers_of, fill_value=0).to_numpy()
    yield from of_requests(numbers_of, there != wanted, _counted("source ports", there, wanted))
    strangers = ~np.isin(whole(own, "number"), numbers_of)
    yield from of_requests(whole(own, "number"), strangers, lambda _: Said("a connection", "none: nothing was decided"))


def _counted(what: str, found: NDArray[Any], expected: NDArray[Any]) -> Callable[[int], Said]:
    return lambda row: Said(f"{found[row]} {what}", f"{expected[row]}")


def _by_engine(history: History) -> bool:
    return str(history.spec["serving"].get("engine", "sockets")) != "sockets"


def wire_bytes(history: History) -> Iterator[Violation]:
    """Emulated: the sender counted the scaled KV bytes and the same header, 1 to 64 bytes, on every stripe.

    A transfer engine has a header on every write, of which a blob of several pieces has more than one a stripe.
    """
    if not history.emulated:
        return
    numbers_of = whole(history.decisions, "request_id")
    sent, stripes = numbers(history.decisions, "wire_bytes"), history.spec["serving"]["stripes"]
    headers = sent - np.round(numbers(history.decisions, "kv_bytes") / history.rate_scale)
    header = headers / stripes
    known = header[~np.isnan(header)]
    usual = float(np.median(known)) if len(known) else 0.0
    wrong = ~np.isnan(sent) & ((header != usual) | (header <= 0) | (header > HEADER_BYTES))
    if _by_engine(history):
        wrong = ~np.isnan(sent) & ((headers <= 0) | (headers % ENGINE_HEADER_BYTES != 0))
    yield from of_requests(
        numbers_of,
        wrong,
        lambda row: Said(f"{sent[row]:.0f} bytes sent", f"{sent[row] + (usual - header[row]) * stripes:.0f}"),
    )
    told, total = history.evidence.get("kv_wire_bytes"), float(np.nansum(sent))
    if told is not None and told != total:
        yield Violation("manifest.json", f"evidence.kv_wire_bytes {told}", f"{total:.0f}, the sum of the decisions")


def link_utilisation(history: History) -> Iterator[Violation]:
    """Every row is of a link of the fabric, which is 0 to 1 full; emulated, up to 1.05: a shaper's burst."""
    most = ABOVE_RATE if history.emulated else 1.0
    name, used = history.links["link"].astype(object), numbers(history.links, "utilisation")
    for row in np.flatnonzero(~((used >= 0) & (used <= most))).tolist():
        yield _row_of_link(history.links, row, f"utilisation {used[row]:g}", f"0 to {most:g}")
    for row in np.flatnonzero(~name.isin(history.fabric.capacity_bps)).tolist():
        yield _row_of_link(history.links, row, "its row in links.parquet", "none: the fabric has no such link")
    if len(name):
        for link in sorted(set(history.fabric.capacity_bps) - set(name)):
            yield Violation(f"link {link}", "no row in links.parquet", "one at every sample")


def link_bytes(history: History) -> Iterator[Violation]:
    """A link's bytes never fall, and over no stretch of its rows grow faster than its capacity.

    Emulated: at 1.05 of it, over `LAG_S` and two polls more, because a row's time is that of its oldest counter.
    Growth is not held for `simulation.network` = `closed_form`, where nothing is contended between the ends of a path.
    """
    time_s, carried = numbers(history.links, "time_s"), numbers(history.links, "bytes")
    slack_s = _reading_s(history) if history.emulated else 0.0
    for link, rows in _rows_by_link(history).items():
        most_Bps = history.fabric.capacity_bps.get(link, np.inf) / 8 * (ABOVE_RATE if history.emulated else 1.0)
        in_order = rows[np.argsort(time_s[rows], kind="stable")]
        at_s, total = time_s[in_order], carried[in_order]
        fell = np.diff(total, prepend=total[0]) < 0
        for k in np.flatnonzero(fell | ~(total >= 0)).tolist():
            yield _row_of_link(history.links, int(in_order[k]), f"{total[k]:.0f} bytes", f"{total[k - 1]:.0f} or more")
        if history.closed_form or np.isinf(most_Bps):
            continue
        above = total - most_Bps * at_s  # over a stretch it rises by what was carried beyond the capacity
        beyond = above - np.minimum.accumulate(above)
        allowed = most_Bps * slack_s + 1.0 + 1e-9 * (np.abs(total) + most_Bps * np.abs(at_s))  # whole bytes, rounding
        for k in np.flatnonzero(beyond > allowed).tolist():
            yield _row_of_link(
                history.links,
                int(in_order[k]),
                f"{total[k]:.0f} bytes",
                f"{total[k] - beyond[k] + allowed[k]:.0f} or less",
            )


def links_carry_kv(history: History) -> Iterator[Violation]:
    """The links at both ends of a transfer have carried its KV bytes once it is received.

    Emulated: of transfers begun `LAG_S` and two polls after the first row, from which bytes are counted, and received
    two polls before the row. Analytic without background traffic or further attempts: they have carried no more than
    the transfers begun so far.
    Not where the controller was killed: nobody counted until a new one had read every counter twice.
    """
    if "controller_killed" in history.broken:
        return
    at, moved = history.instants, history.of_requests("kv_bytes")
    slack_s = POLLS * _poll_s(history) + history.paused_s if history.emulated else 0.0
    first_s = -np.inf
    if history.emulated and len(history.links):
        first_s = numbers(history.links, "time_s").min() + _reading_s(history)
    quiet = history.spec["congestion"]["kind"] == "none" and "background_surge" not in history.broken
    nothing_else = quiet and not history.emulated and not history.tried_again.any()
    rows_of = _rows_by_link(history)
    time_s, carried = numbers(history.links, "time_s"), numbers(history.links, "bytes")
    for column, ends in (("prefill_id", "h{0}>srv{1}"), ("decode_id", "srv{1}>h{0}")):
        instance_of = whole(history.requests, column)
        for instance in np.unique(instance_of[moved > 0]).tolist():
            link = ends.format(instance, int(history.fabric.server(np.array(instance))))
            rows = rows_of.get(link, np.zeros(0, dtype=np.int64))
            mine = (instance_of == instance) & (moved > 0)
            done = mine & (at.received < np.inf) & (at.sent >= first_s)
            least = _sum_until(at.received[done] + slack_s, moved[done], time_s[rows])
            begun = mine & ~np.isnan(at.sent)
            most = _sum_until(at.sent[begun] - history.order_s, moved[begun], time_s[rows])
            rounding = (moved > 0).sum() * history.rate_scale / 2 + 1.0 + 1e-9 * least
            wrong = carried[rows] < least - rounding
            if nothing_else:
                wrong |= carried[rows] > most + rounding
            for k in np.flatnonzero(wrong).tolist():
                expected = f"{least[k]:.0f} or more" + (f", {most[k]:.0f} or less" if nothing_else else "")
                yield _row_of_link(history.links, int(rows[k]), f"{carried[rows][k]:.0f} bytes", f"{expected} of KV")


def _rows_by_link(history: History) -> dict[str, NDArray[np.int64]]:
    """The rows of links.parquet of each link, in their order."""
    names, which = np.unique(history.links["link"].astype(str).to_numpy(dtype=object), return_inverse=True)
    return {str(name): np.flatnonzero(which == k) for k, name in enumerate(names.tolist())}


def _sum_until(event_s: Floats, amount: Floats, at_s: Floats) -> Floats:
    """The sum of the amounts of all events up to each of some instants."""
    order = np.argsort(event_s, kind="stable")
    summed = np.concatenate([[0.0], np.cumsum(amount[order])])
    return np.asarray(summed[np.searchsorted(event_s[order], at_s, "right")], dtype=float)


def _reading_s(history: History) -> float:
    """How much later than its row's time a counter may have been read, seconds."""
    return history.lag_s + POLLS * _poll_s(history)


def _poll_s(history: History) -> float:
    return float(history.spec["oracle"]["poll_s"])


def _connection(table: pd.DataFrame, row: int, found: str, expected: str) -> Violation:
    owner, number, connection = (table[name].iloc[row] for name in ("owner", "number", "connection"))
    request = int(number) if owner == "transfer" else None
    subject = f"request {number}" if request is not None else f"background flow {number}"
    return Violation(f"{subject}, connection {connection}", found, expected, request)


def _row_of_link(table: pd.DataFrame, row: int, found: str, expected: str) -> Violation:
    return Violation(f"link {table['link'].iloc[row]} at {table['time_s'].iloc[row]:.6f} s", found, expected)
