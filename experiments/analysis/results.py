"""From requests to the tidy frame of a sweep: one row a condition and policy, the same columns for every question."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from experiments.analysis.margins import LEAST_SNAPSHOTS
from experiments.analysis.retained_gain import retained_gain
from experiments.analysis.statistics import (
    SHARE,
    counted,
    holm,
    mean_interval,
    paired_change,
    percentile_interval,
    units_of,
)

NEVER = "never"

WITHOUT_TELEMETRY = "netkv_static"
"""NetKV with nominal bandwidths: what NetKV-Full does without a snapshot."""

Further = Callable[[pd.DataFrame, pd.DataFrame], Mapping[str, float | str]]
"""Figures of a row that only one question has: of its requests, and all those of the same world, workload and axes; or,
as `across`, all those of the same world and workload."""


def change_column(reference: str, references: Sequence[str]) -> str:
    """What the columns of the change against `reference` begin with: the first of the references needs no name."""
    return "ttft_change" if reference == references[0] else f"ttft_change_{reference}"


def tidy(
    requests: pd.DataFrame,
    axes: Sequence[str],
    references: Sequence[str],
    further: Further | None = None,
    across: Further | None = None,
) -> pd.DataFrame:
    """One row a world, workload, value of the axes, policy and refresh interval, in the order of the runs and ascending
    intervals, whichever runs are invalid: these count for nothing.

    Only the pairs of an invalid run are lost: other policies keep theirs of its seed. `left_out` counts the invalid
    runs of a row, `ttft_change_seeds` the seeds that have pairs with the reference. A condition of which every run is
    invalid has no row.

    `requests`: the frame of `experiments.read_sweep`. Columns: the keys; `snapshots`, the fewest that decisions of a
    run were based on, and `correlation_s`, the time scale of the congestion; `seeds`, `requests`, `completed`; means
    of `ttft_ms`, `tpot_ms` and `slo_attainment` and the percentile `p99_ttft_ms`, with their intervals; means of
    `kv_transfer_ms` and `oracle_age_ms`, the median of `decision_us`. `reference` names the first of the `references`,
    and `ttft_change_percent`, `ttft_change_low` and `ttft_change_high` compare the mean TTFT with it over the same
    requests; `ttft_change_p` is the p-value of no change, `ttft_change_p_holm` that one corrected for the number of
    comparisons of that column in the same world, as for every other column of p-values; `ttft_change_detectable` the
    smallest change, percent, that the comparison could have detected (`Estimate.detectable`).
    `ttft_change_NAME_percent` and so on compare with each other reference. NaN
    where a reference was not run. All but the counts are over the requests after the warm-up cut of
    `experiments.analysis.statistics`.
    """
    given = requests.assign(refresh_s=refresh_numbers(requests["refresh_s"]))
    trusted = given[given["verdict"] != "invalid"]
    place = ["world", "workload", *axes]
    policies = list(given["policy"].unique())
    rows = []
    everywhere = dict(iter(counted(given).groupby(place[:2], dropna=False))) if across else {}
    for at, beside in trusted.groupby(place, dropna=False, sort=False):
        warm = counted(beside)
        baselines = {reference: warm[warm["policy"] == reference] for reference in references}
        groups = warm.groupby(["policy", "refresh_s"], dropna=False, sort=False)
        for (policy, refresh_s), group in sorted(groups, key=lambda one: (policies.index(one[0][0]), one[0][1])):
            row = {**dict(zip(place, at, strict=True)), "policy": policy, "refresh_s": refresh_s}
            row |= {"snapshots": group["snapshots"].min(), "correlation_s": group["correlation_s"].iloc[0]}
            row |= _counts(beside[beside["run"].isin(group["run"])]) | _means(group) | {"reference": references[0]}
            for reference in references:
                prefix = change_column(reference, references)
                change = paired_change(baselines[reference], group, "ttft_ms")
                row |= {f"{prefix}_percent": change.percent, f"{prefix}_low": change.low, f"{prefix}_high": change.high}
                row[f"{prefix}_detectable"] = math.nan if policy == reference else change.detectable
                row[f"{prefix}_p"] = math.nan if policy == reference else change.p
                if reference == references[0]:
                    row["ttft_change_seeds"] = len(change_seeds(baselines[reference], group))
            row |= further(group, warm) if further else {}
            row |= across(group, everywhere[at[:2]]) if across else {}
            rows.append(row)
    results = pd.DataFrame(rows)
    if len(results):
        keys = [*place, "policy", "refresh_s"]
        invalid = given[given["verdict"] == "invalid"].groupby(keys, dropna=False)["run"].nunique()
        results = results.merge(invalid.rename("left_out").reset_index(), on=keys, how="left")
        results["left_out"] = results["left_out"].fillna(0).astype(int)
        for column in [str(name) for name in results if str(name).endswith("_p")]:
            p_values = results.groupby("world")[column]
            results[f"{column}_holm"] = p_values.transform(lambda given: pd.Series(holm(list(given)), given.index))
    return results


def measured_apart(results: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of `tidy` that are the same for the same specifications, and what only the wall clock knows of the others.

    The first have no `decision_us` in the analytic world; the second are that column of those rows, with their keys.
    """
    analytic = results["world"] == "analytic"
    keys = list(results.columns[: list(results.columns).index("snapshots")])
    apart = results.loc[analytic, [*keys, "decision_us"]]
    return results.assign(decision_us=results["decision_us"].mask(analytic)), apart


def change_seeds(baseline: pd.DataFrame, other: pd.DataFrame) -> set[int]:
    """The seeds that both have runs of."""
    return set(baseline["seed"]) & set(other["seed"])


def against_freshest(group: pd.DataFrame, beside: pd.DataFrame) -> Mapping[str, float]:
    """What age changes: the same policy at its shortest refresh interval is the reference.

    `telemetry_gain_ms` and `retained_percent`: what that gains over a policy that decides alike without telemetry, and
    the share of it kept (`retained_gain`); NaN where that was not run.
    `aged_change` of TTFT and `aged_kv` of the KV transfer alone; `same_tier`: the share of requests that went over the
    same tier as there; `prediction_error`: median of |predicted - measured| / measured of the transfers.
    """
    of_policy = beside[beside["policy"] == group["policy"].iloc[0]]
    fresh = of_policy[of_policy["refresh_s"] == of_policy["refresh_s"].min()]
    aged, aged_kv = (paired_change(fresh, group, column) for column in ("ttft_ms", "kv_transfer_ms"))
    gain, retained = retained_gain(beside[beside["policy"] == WITHOUT_TELEMETRY], fresh, group, "ttft_ms")
    tiers = [frame[["seed", "request_id", "tier"]] for frame in (fresh, group)]
    pairs = tiers[0].merge(tiers[1], on=["seed", "request_id"])
    moved = group[(group["status"] == "completed") & (group["kv_bytes"] > 0)]
    error = (moved["predicted_kv_transfer_ms"] - moved["kv_transfer_ms"]).abs() / moved["kv_transfer_ms"]
    return {
        "aged_change_percent": aged.percent,
        "aged_change_low": aged.low,
        "aged_change_high": aged.high,
        "aged_kv_percent": aged_kv.percent,
        "aged_kv_low": aged_kv.low,
        "aged_kv_high": aged_kv.high,
        "aged_change_detectable": aged.detectable,
        "aged_kv_detectable": aged_kv.detectable,
        "telemetry_gain_ms": gain.value,
        "telemetry_gain_low": gain.low,
        "telemetry_gain_high": gain.high,
        "retained_percent": retained.value,
        "retained_low": retained.low,
        "retained_high": retained.high,
        "same_tier": float((pairs["tier_x"] == pairs["tier_y"]).mean()),
        "prediction_error": float(error.median()),
    }


def informed(rows: pd.DataFrame) -> pd.DataFrame:
    """Without rows that are refused: of policies that read telemetry, in runs with fewer snapshots than it takes.

    Of a tidy frame, or of requests.
    """
    return rows[rows["refresh_s"].isna() | (rows["snapshots"] >= LEAST_SNAPSHOTS)]


def refresh_numbers(refresh_s: pd.Series) -> pd.Series[float]:
    """Refresh intervals in numbers again, NaN where a policy reads no telemetry."""
    return pd.to_numeric(refresh_s.map(lambda given: math.inf if given == NEVER else given)).astype(float)


def _counts(group: pd.DataFrame) -> dict[str, float]:
    return {
        "seeds": group["seed"].nunique(),
        "requests": len(group),
        "completed": int((group["status"] == "completed").sum()),
    }


def _means(group: pd.DataFrame) -> dict[str, float]:
    done = group[group["status"] == "completed"]
    spoke = done.dropna(subset=["tpot_ms"])
    ttft_ms, units = done["ttft_ms"].to_numpy(dtype=float), units_of(done)
    found: dict[str, float] = {}
    for names, figures in (
        (("ttft_ms", "ttft_low_ms", "ttft_high_ms"), mean_interval(ttft_ms, units=units)),
        (("p99_ttft_ms", "p99_ttft_low_ms", "p99_ttft_high_ms"), percentile_interval(ttft_ms, 99, units)),
        (
            ("tpot_ms", "tpot_low_ms", "tpot_high_ms"),
            mean_interval(spoke["tpot_ms"].to_numpy(dtype=float), units=units_of(spoke, "tpot_ms")),
        ),
        (
            ("slo_attainment", "slo_low", "slo_high"),
            mean_interval(group["slo_met"].to_numpy(dtype=float), units=units_of(group), bounds=SHARE),
        ),
    ):
        found |= dict(zip(names, figures, strict=True))
    found |= {name: float(done[name].mean()) for name in ("kv_transfer_ms", "oracle_age_ms")}
    return found | {"decision_us": float(done["decision_us"].median())}


def gains(results: pd.DataFrame, policy: str) -> pd.DataFrame:
    """The rows of one policy with `gain_percent`, `gain_low`, `gain_high`: of the reference's mean TTFT saved."""
    rows = results[results["policy"] == policy]
    return rows.assign(
        gain_percent=-rows["ttft_change_percent"],
        gain_low=-rows["ttft_change_high"],
        gain_high=-rows["ttft_change_low"],
    ).dropna(subset=["gain_percent"])


def challengers(results: pd.DataFrame, references: Sequence[str]) -> list[str]:
    """The policies of a sweep that are compared with its references, NetKV-Full first."""
    found = [name for name in dict.fromkeys(results["policy"]) if name not in references]
    return sorted(found, key=lambda name: name != "netkv_full")
