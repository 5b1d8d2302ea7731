"""How ECMP spread the connections of a run over equal-cost paths, and where they met, from `paths.parquet`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

UNKNOWN = -1


def spread_by_tier(connections: pd.DataFrame) -> dict[str, Any]:
    """By tier: how many connections took each of the equal-cost paths, and the fullest path over an even share.

    Only tiers with more than one path; connections whose path is not known count as `unknown` and nowhere else.
    """
    found = {}
    for tier, rows in connections[connections["equal_paths"] > 1].groupby("tier"):
        paths = int(rows["equal_paths"].iloc[0])
        known = rows.loc[rows["path"] != UNKNOWN, "path"].to_numpy(dtype=int)
        counts = np.bincount(known, minlength=paths)
        found[str(tier)] = {
            "equal_paths": paths,
            "connections": len(known),
            "by_path": counts.tolist(),
            "fullest_over_even": float(counts.max() * paths / len(known)) if len(known) else None,
            "unknown": int(len(rows) - len(known)),
        }
    return found


def collisions(connections: pd.DataFrame) -> dict[str, Any]:
    """Of transfers that had a choice of paths: those whose own stripes bunch, and those that met others on the way up.

    `bunched`: more stripes on one path than an even deal would put there. `met`: a multipath link (ToR to
    aggregation, aggregation to core) shared with connections of others at the same time; `stripes_met`: how many
    stripes of transfers did.
    """
    choosing = connections[(connections["equal_paths"] > 1) & (connections["path"] != UNKNOWN)]
    transfers = choosing[choosing["owner"] == "transfer"]
    bunched = 0
    for _, stripes in transfers.groupby("number"):
        even = math.ceil(len(stripes) / stripes["equal_paths"].iloc[0])
        bunched += int(stripes["path"].value_counts().max() > even)
    meeting = _meetings(choosing)
    return {
        "transfers": int(transfers["number"].nunique()),
        "bunched": bunched,
        "met": len({number for number, _ in meeting}),
        "stripes": len(transfers),
        "stripes_met": len(meeting),
    }


def agreement(one: pd.DataFrame, other: pd.DataFrame) -> dict[str, Any]:
    """How many connections that two runs have in common took the same of several equal-cost paths in both.

    A background connection is the same by its flow and number, one of transfers by its pair, its stripe, and the order
    in which the pair's bundles were first used. `share` is None where there is none in common.
    """
    both = _named(one).to_frame().join(_named(other).rename("other"), how="inner")
    alike = int((both["path"] == both["other"]).sum())
    return {"connections": len(both), "same_path": alike, "share": alike / len(both) if len(both) else None}


def _named(connections: pd.DataFrame) -> pd.Series[int]:
    """The path of every connection that had a choice, by what names the connection in any run of the same seed."""
    rows = connections[(connections["equal_paths"] > 1) & (connections["path"] != UNKNOWN)].sort_values("started_s")
    pair = ["owner", "source", "target", "connection"]
    of_transfers = rows[rows["owner"] == "transfer"].drop_duplicates([*pair, "source_port"])
    of_transfers = of_transfers.assign(number=of_transfers.groupby(pair).cumcount())
    together = pd.concat([of_transfers, rows[rows["owner"] != "transfer"]])
    return together.set_index([*pair, "number"])["path"]


def busiest_links(connections: pd.DataFrame, count: int = 8) -> list[dict[str, Any]]:
    """The links with the most connections at one instant (`at_once`); `total` is those of the whole run."""
    found: list[dict[str, Any]] = []
    for link, rows in _crossings(connections).groupby("links"):
        edges = [(at, step) for at, step in zip(rows["started_s"], [1] * len(rows), strict=True)]
        edges += [(at, -1) for at in rows["ended_s"]]
        at_once = np.cumsum([step for _, step in sorted(edges)])
        found.append({"link": str(link), "at_once": int(at_once.max()), "total": len(rows)})
    return sorted(found, key=lambda row: (-row["at_once"], -row["total"], row["link"]))[:count]


def _meetings(choosing: pd.DataFrame) -> set[tuple[int, int]]:
    """(transfer, stripe) of every stripe that shared a multipath link with a connection of another transfer or flow."""
    upward = _crossings(choosing)
    upward = upward[upward["links"].str.match(r"tor\d+>agg|agg\d+>core")]
    met: set[tuple[int, int]] = set()
    for _, rows in upward.groupby("links"):
        owner = rows["owner"].to_numpy()
        number, stripe = rows["number"].to_numpy(), rows["connection"].to_numpy()
        started_s, ended_s = rows["started_s"].to_numpy(dtype=float), rows["ended_s"].to_numpy(dtype=float)
        for at in np.flatnonzero(owner == "transfer"):
            at_once = (started_s < ended_s[at]) & (ended_s > started_s[at])
            if (at_once & ((owner != "transfer") | (number != number[at]))).any():
                met.add((int(number[at]), int(stripe[at])))
    return met


def _crossings(connections: pd.DataFrame) -> pd.DataFrame:
    """A row for every link that a connection crossed."""
    return connections.explode("links").dropna(subset=["links"])
