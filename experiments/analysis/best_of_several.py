"""The best of several policies as a reference: chosen on other seeds than those that a policy is compared with it on.

The lowest of several noisy means is too low (the winner's curse), so whoever is chosen on the seeds that are judged is
harder to beat than it deserves. Here each seed is judged against the policy that was best on all others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from experiments.analysis.statistics import paired_change


@dataclass(frozen=True)
class BestOfSeveral:
    """`chosen`: the policy that was chosen for each seed; `requests`: what these policies' runs of those seeds hold.

    `name`: the policy chosen for most seeds, the first by name of equals; "" where there is none.
    """

    chosen: Mapping[int, str]
    requests: pd.DataFrame

    @property
    def name(self) -> str:
        names = sorted(self.chosen.values())
        return max(names, key=names.count) if names else ""


def best_of_other_seeds(requests: pd.DataFrame, policies: Sequence[str], column: str = "ttft_ms") -> BestOfSeveral:
    """For each seed the one of `policies` with the least mean of `column` over the requests of all other seeds.

    Of one seed alone it is the best of that seed, which makes a gain over it look smaller than it is. A policy that
    turned a request away is not chosen: the mean of those it served is not comparable.
    """
    rejecting = set(requests.loc[requests["status"] == "rejected", "policy"])
    able = requests[requests["policy"].isin(set(policies) - rejecting) & (requests["status"] == "completed")]
    if able.empty:
        return BestOfSeveral({}, able)
    by_seed = able.groupby(["seed", "policy"])[column]
    sums, counts = (figure.unstack(fill_value=0) for figure in (by_seed.sum(), by_seed.count()))
    elsewhere = ((sums.sum() - sums) / (counts.sum() - counts)).where(counts > 0)
    alone = elsewhere.isna().all(axis=1)
    means = elsewhere.where(~alone, sums / counts, axis=0)
    chosen = dict(zip(means.index.astype(int).tolist(), means.idxmin(axis=1).astype(str), strict=True))
    kept = able["policy"] == able["seed"].map(chosen)
    return BestOfSeveral(chosen, able[kept])


def against_best(
    group: pd.DataFrame, beside: pd.DataFrame, policies: Sequence[str], exempt: Sequence[str] = ()
) -> dict[str, float | str]:
    """Figures of a row: `public`, the best of `policies` there, and `public_change` of the mean TTFT against it.

    NaN for the `policies` themselves and for those that are `exempt`. `group`: the requests of the row, `beside`: all
    of the same world, workload and axes.
    """
    best = best_of_other_seeds(beside, policies)
    judged = group if group["policy"].iloc[0] not in {*policies, *exempt} else group.iloc[:0]
    change = paired_change(best.requests, judged, "ttft_ms")
    return {
        "public": best.name,
        "public_seeds": sum(name == best.name for name in best.chosen.values()),
        "public_change_percent": change.percent,
        "public_change_low": change.low,
        "public_change_high": change.high,
        "public_change_detectable": change.detectable,
        "public_change_p": change.p,
    }


def what_binds(group: pd.DataFrame) -> dict[str, float]:
    """What requests of a row waited for, and what they did not have to move.

    `admission_ms`: mean of `decode_wait_ms`; `waiting_percent`: share of the requests that waited for longer than one
    decode step of their own (the mean time between their tokens); `cached_percent`: share of all prompt tokens that the
    decode instance held.
    """
    done = group[group["status"] == "completed"]
    waited_ms, step_ms = decode_wait_ms(done), done["tpot_ms"]
    return {
        "admission_ms": float(waited_ms.mean()),
        "waiting_percent": 100 * float((waited_ms > step_ms)[step_ms.notna()].mean()),
        "cached_percent": 100 * float(done["cached_tokens"].sum() / done["input_length"].sum()),
    }


def decode_wait_ms(completed: pd.DataFrame) -> pd.Series[float]:
    """How long each request waited for its decode instance: for KV memory before the transfer, for a place after it.

    What its other parts leave of the time to first token; its first step is taken to be like those that follow.
    """
    parts_ms = completed[["queue_ms", "prefill_ms", "kv_transfer_ms", "tpot_ms"]].sum(axis=1, skipna=False)
    rest_ms = (completed["ttft_ms"] - parts_ms).fillna(0.0)
    return completed["admission_ms"].where(completed["admission_ms"] > rest_ms, rest_ms)
