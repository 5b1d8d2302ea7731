"""The closed form of telemetry's gain (docs/explanation/refresh-theory.md) beside a map that was measured.

python -m experiments.questions.refresh_theory measure docs/data results/map-*    # the cells of sweeps, as CSV
python -m experiments.questions.refresh_theory show docs/data docs/img            # the fit, its misfit and the figure
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.analysis import (
    WITHOUT_TELEMETRY,
    GainFit,
    counted,
    fit_gain,
    informed,
    kept_over_transfers,
    paired_change,
    still_true,
)
from experiments.drawing import CONGESTION_PERIOD, paper, put_title, save_figure, style_of
from experiments.running import RUNS, StoreError, read_manifest, read_sweep, spec_of

CELLS, TRANSFERS = "refresh-map.csv", "refresh-map-transfers.csv"
"""A row a policy, period and refresh interval; how long transfers took without telemetry, in bins."""

BINS_A_DECADE = 20

FORMS = (("netkv_fresh", True), ("netkv_fresh", False), ("netkv_full", True), ("netkv_full", False))
"""Policies and whether c = 0, in the order of the page."""

ALPHAS = np.round(np.arange(0.1, 2.001, 0.01), 2)
"""Correlation times that are tried, over the mean on/off period."""

THEORY_ALPHA = 0.5


@dataclass(frozen=True)
class MapFit:
    """One form fitted to all cells of a policy; best_alpha: tau / T for which it would have fitted best."""

    policy: str
    costless: bool
    fit: GainFit
    best_alpha: float
    best_r_squared: float
    cells: int


def measured_cells(sweeps: Sequence[Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The cells of the maps in these sweeps, their runs together; and the bins of NetKV-Static's transfers, seconds.

    saved_percent, low, high: the mean KV transfer saved against NetKV-Static over the same requests, 95 % interval;
    ttft_saved_percent: of the mean TTFT. StoreError for a sweep that is no map.
    """
    requests = pd.concat([read_sweep(folder) for folder in sweeps], ignore_index=True)
    if CONGESTION_PERIOD.column not in requests or WITHOUT_TELEMETRY not in set(requests["policy"]):
        raise StoreError(f"{sweeps[0]}: not a sweep of staleness_map with {WITHOUT_TELEMETRY}")
    first = sweeps[0] / RUNS / str(requests["run"].iloc[0])
    poll_s = spec_of(first, read_manifest(first)).oracle.poll_s
    warm = counted(requests)
    static = warm[warm["policy"] == WITHOUT_TELEMETRY]
    rows = []
    aged = informed(warm[warm["policy"] != WITHOUT_TELEMETRY])
    for (policy, period_s, refresh_s), group in aged.groupby(["policy", CONGESTION_PERIOD.column, "refresh_s"]):
        beside = static[static[CONGESTION_PERIOD.column] == period_s]
        kv, ttft = (paired_change(beside, group, column) for column in ("kv_transfer_ms", "ttft_ms"))
        rows.append(
            {
                **{"policy": policy, "period_s": period_s, "refresh_s": refresh_s, "poll_s": poll_s},
                **{"seeds": group["seed"].nunique(), "requests": len(group)},
                **{"saved_percent": -kv.percent, "low": -kv.high, "high": -kv.low, "ttft_saved_percent": -ttft.percent},
            }
        )
    moved_s = static.loc[static["kv_transfer_ms"] > 0, "kv_transfer_ms"].to_numpy(dtype=float) / 1e3
    steps, counts = np.unique(np.rint(BINS_A_DECADE * np.log10(moved_s)), return_counts=True)
    return pd.DataFrame(rows), pd.DataFrame({"transfer_s": 10 ** (steps / BINS_A_DECADE), "count": counts})


def kept_in(cells: pd.DataFrame, transfers: pd.DataFrame, alpha: float = THEORY_ALPHA) -> list[float]:
    """K of every cell, with a correlation time of `alpha` on/off periods."""
    transfer_s, counts = (transfers[name].to_numpy(dtype=float) for name in ("transfer_s", "count"))
    periods_s = cells["period_s"].unique().tolist()
    over = {period_s: kept_over_transfers(transfer_s, alpha * period_s, counts) for period_s in periods_s}
    columns = (cells[name].tolist() for name in ("period_s", "refresh_s", "poll_s"))
    return [
        still_true(refresh_s, alpha * period_s, poll_s, over[period_s])
        for period_s, refresh_s, poll_s in zip(*columns, strict=True)
    ]


def fit_map(cells: pd.DataFrame, transfers: pd.DataFrame) -> list[MapFit]:
    """Every form of `FORMS` whose policy is in the map."""
    found = []
    kept_by_alpha: dict[tuple[str, float], list[float]] = {}
    for policy, costless in FORMS:
        rows = cells[cells["policy"] == policy]
        if rows.empty:
            continue
        tried = []
        for alpha in ALPHAS.tolist():
            if (policy, alpha) not in kept_by_alpha:
                kept_by_alpha[policy, alpha] = kept_in(rows, transfers, alpha)
            tried.append(fit_gain(kept_by_alpha[policy, alpha], rows["saved_percent"].tolist(), costless=costless))
        best = int(np.argmax([one.r_squared for one in tried]))
        fit = tried[int(np.argmin(np.abs(ALPHAS - THEORY_ALPHA)))]
        found.append(MapFit(policy, costless, fit, float(ALPHAS[best]), tried[best].r_squared, len(rows)))
    return found


def fit_text(found: Sequence[MapFit]) -> str:
    """The fits as a table: g and c in percent of the mean KV transfer, the misfit, and the best alpha."""
    lines = [
        f"{'policy':<13}{'form':<9}{'cells':>6}{'g, %':>7}{'c, %':>7}{'R^2':>7}{'RMS, points':>13}{'best tau/T':>12}"
    ]
    for one in found:
        form = "c = 0" if one.costless else "g and c"
        lines.append(
            f"{one.policy:<13}{form:<9}{one.cells:>6}{one.fit.gain:>7.2f}{one.fit.cost:>7.2f}{one.fit.r_squared:>7.3f}"
            f"{one.fit.rms:>13.2f}{f'{one.best_alpha:.2f} ({one.best_r_squared:.2f})':>12}"
        )
    return "\n".join(lines)


def draw_fits(cells: pd.DataFrame, transfers: pd.DataFrame, found: Sequence[MapFit], out: Path) -> list[Path]:
    """The closed form as lines over the measured cells, a panel a policy, as `refresh-theory.png` and `.svg`."""
    import matplotlib.pyplot as plt

    shown = {one.policy: one.fit for one in found if one.costless == (one.policy == "netkv_fresh")}
    periods_s = sorted(cells["period_s"].unique())
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.92, len(periods_s)))
    with paper():
        figure, axes = plt.subplots(1, len(shown), figsize=(5 * len(shown), 4.4), sharey=True, layout="constrained")
        for axis, (policy, fit) in zip(np.atleast_1d(axes), shown.items(), strict=True):
            for period_s, colour in zip(periods_s, colours, strict=True):
                rows = cells[(cells["policy"] == policy) & (cells["period_s"] == period_s)].sort_values("refresh_s")
                away = [rows["saved_percent"] - rows["low"], rows["high"] - rows["saved_percent"]]
                axis.errorbar(
                    rows["refresh_s"], rows["saved_percent"], yerr=away, fmt="o", color=colour, lw=0.8,
                    label=f"{period_s:g} s",
                )  # fmt: skip
                fine = pd.DataFrame({"refresh_s": np.geomspace(0.1, 60, 60)}).assign(
                    period_s=period_s, poll_s=rows["poll_s"].iloc[0]
                )
                axis.plot(fine["refresh_s"], [fit.at(kept) for kept in kept_in(fine, transfers)], color=colour)
            axis.axhline(0, color="#000000", lw=0.8)
            axis.set(xscale="log", xlabel="Refresh interval (s)")
            axis.xaxis.set_major_formatter("{x:g}")
            axis.set_title(f"{style_of(policy).label}: R² {fit.r_squared:.2f}, RMS {fit.rms:.1f} points")
            axis.grid()
        np.atleast_1d(axes)[0].set_ylabel("Mean KV transfer saved against NetKV-Static (%)")
        note = "Points: measured, with 95 % intervals, analytic world. Lines: the closed form, one g and c a policy."
        title = "Is the worth of telemetry what its refresh interval says? By mean on/off period"
        put_title(figure, title, note, np.atleast_1d(axes)[0])
        return save_figure(figure, out / "refresh-theory")


def main(arguments: list[str]) -> int:
    """`measure DATA SWEEP...` or `show DATA [FIGURES]`."""
    if len(arguments) < 2 or arguments[0] not in ("measure", "show"):
        print(__doc__, file=sys.stderr)
        return 2
    data = Path(arguments[1])
    if arguments[0] == "measure":
        cells, transfers = measured_cells([Path(folder) for folder in arguments[2:]])
        cells.to_csv(data / CELLS, index=False, float_format="%.4f")
        transfers.to_csv(data / TRANSFERS, index=False, float_format="%.6g")
        return 0
    cells, transfers = pd.read_csv(data / CELLS), pd.read_csv(data / TRANSFERS)
    found = fit_map(cells, transfers)
    print(fit_text(found))
    if len(arguments) > 2:
        draw_fits(cells, transfers, found, Path(arguments[2]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
