"""docs/explanation/refresh-theory.md: the closed form beside a process that was drawn, and the bound on a loss."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from experiments.analysis import fit_gain, kept_over_transfers, mean_kept, most_loss_s, still_true
from experiments.questions.refresh_theory import CELLS, TRANSFERS, fit_map, fit_text, main
from scenario import CongestionSpec, OracleSpec, Scenario, WorkloadSpec
from scheduler.view import BACKGROUND_COMPETITORS
from tests.support.analytic_runs import run
from tests.support.paths import ROOT

pytestmark = pytest.mark.xdist_group("refresh theory")
"""On one processor: its runs are made once."""

PAGE = ROOT / "docs" / "explanation" / "refresh-theory.md"
DATA = ROOT / "docs" / "data"

EPSILON = 0.02
"""What NetKV-Fresh may lose of the mean KV transfer against NetKV-Static over the three seeds of a test."""

# -- the closed form ---------------------------------------------------------------------------------------------------


def test_what_is_kept_on_average_by_hand() -> None:
    assert mean_kept(0.0) == 1.0
    assert mean_kept(1.0) == pytest.approx(1 - 1 / math.e)
    assert mean_kept(1.5936) == pytest.approx(0.5, abs=1e-4)
    assert mean_kept(100.0) == pytest.approx(1 / 100)  # tau / R
    # durations of 1 and 3 s, tau 1 s: (1 phi(1) + 3 phi(3)) / 4 = (1 - 1/e + 1 - 1/e^3) / 4
    kept = kept_over_transfers(np.array([1.0, 3.0]), 1.0)
    assert kept == pytest.approx((2 - math.exp(-1) - math.exp(-3)) / 4)
    assert kept_over_transfers(np.array([1.0]), 1.0, np.array([5.0])) == pytest.approx(mean_kept(1.0))
    assert still_true(2.0, 1.0, 0.5, 0.9) == pytest.approx(mean_kept(2.0) * mean_kept(0.5) ** 2 * 0.9)


NEAR_IDLE, NEAR_BUSY, FAR = 1.0, 3.0, 2.4
"""Costs of a near way, whose link is on or off, and of a far one that is always the same.

Without telemetry near is better: 2 on average. Knowing the truth costs (1 + 2.4) / 2 = 1.7, so g = 0.3; a snapshot that
tells nothing (2 + 2.4) / 2 = 2.2, so c = 0.2."""

GAIN, COST = 0.3, 0.2


def busy_s(switch_s: NDArray[np.float64], at_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """How long the link has been busy until each time; it becomes idle, busy, idle... at these times."""
    gaps = np.diff(switch_s)
    total = np.concatenate([[0.0], np.cumsum(np.where(np.arange(len(gaps)) % 2 == 1, gaps, 0.0))])
    busy: NDArray[np.float64] = np.interp(at_s, switch_s, total)
    return busy


@pytest.mark.parametrize("transfer_s", [0.01, 2.0])
@pytest.mark.parametrize("refresh_s", [0.2, 1.0, 3.0, 12.0])
def test_the_closed_form_is_that_of_an_on_off_link(refresh_s: float, transfer_s: float) -> None:
    """Of a link with mean periods T = 2 s, so tau = 1 s: who believes its snapshot gains (g + c) K - c."""
    rng = np.random.default_rng([int(10 * refresh_s), int(100 * transfer_s)])
    switch_s = np.concatenate([[0.0], np.cumsum(rng.exponential(2.0, 400_000))])
    seen_s = np.arange(1.0, switch_s[-1] - refresh_s - transfer_s - 1, refresh_s)[:200_000]
    seen_busy = (np.searchsorted(switch_s, seen_s, side="right") - 1) % 2 == 1
    decided_s = seen_s + rng.uniform(0, refresh_s, len(seen_s))
    load = (busy_s(switch_s, decided_s + transfer_s) - busy_s(switch_s, decided_s)) / transfer_s
    near = NEAR_IDLE + (NEAR_BUSY - NEAR_IDLE) * load
    gained = float((near - np.where(seen_busy, FAR, near)).mean())
    kept = still_true(refresh_s, 1.0, over_transfers=mean_kept(transfer_s))
    assert gained == pytest.approx((GAIN + COST) * kept - COST, abs=0.015)


def test_a_fit_finds_what_it_was_made_of() -> None:
    kept = [0.9, 0.5, 0.2, 0.05]
    exact = fit_gain(kept, [(10 + 3) * k - 3 for k in kept], costless=False)
    assert (exact.gain, exact.cost, exact.r_squared, exact.rms) == pytest.approx((10, 3, 1, 0))
    assert exact.at(1.0) == pytest.approx(10)
    poor = fit_gain(kept, [5.0, 5.0, 5.0, 5.1], costless=True)
    assert poor.r_squared < 0
    with pytest.raises(ValueError, match="three of both"):
        fit_gain([1.0], [1.0], costless=True)


# -- the map -----------------------------------------------------------------------------------------------------------


def test_the_page_has_the_fit_that_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(DATA)]) == 0
    printed = capsys.readouterr().out
    page = PAGE.read_text(encoding="utf-8")
    assert [line for line in printed.splitlines() if line.strip() not in page] == []


def test_a_fit_takes_the_correlation_time_to_be_half_of_a_period() -> None:
    """Cells that were made by the closed form are fitted without a rest, at alpha = 0.5."""
    transfers = pd.read_csv(DATA / TRANSFERS)
    cells = pd.read_csv(DATA / CELLS)
    from experiments.questions.refresh_theory import kept_in

    made = cells.assign(saved_percent=[20 * kept - 4 for kept in kept_in(cells, transfers)])
    found = [one for one in fit_map(made, transfers) if not one.costless]
    assert [one.best_alpha for one in found] == [0.5] * len(found)
    assert [one.fit.r_squared for one in found] == pytest.approx([1.0] * len(found))
    assert "16.00" in fit_text(found)


def test_a_wrong_command_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["draw", str(tmp_path)]) == 2
    assert "measure docs/data" in capsys.readouterr().err


# -- never worse than no telemetry by more than epsilon ----------------------------------------------------------------

SLOWDOWNS = st.floats(1.0, 1.0 + BACKGROUND_COMPETITORS)
SHARES = st.floats(0.0, 1.0)


@given(
    ways=st.lists(st.tuples(st.floats(0.001, 10.0), SLOWDOWNS, SLOWDOWNS, SLOWDOWNS), min_size=2, max_size=8),
    true_weight=SHARES,
    weight=SHARES,
)
def test_a_weighed_snapshot_costs_at_most_epsilon_more_than_any_choice(
    ways: list[tuple[float, float, float, float]], true_weight: float, weight: float
) -> None:
    """Each way: its time when idle, its slowdown in the snapshot and on average, and what the mean is taken for."""
    idle_s, seen, mean, believed = np.array(ways).T
    true_s = idle_s * (true_weight * seen + (1 - true_weight) * mean)
    predicted_s = idle_s * (weight * seen + (1 - weight) * believed)
    epsilon_s = most_loss_s(
        idle_s.max(), abs(weight - true_weight), float(np.abs(believed - mean).max()), BACKGROUND_COMPETITORS
    )
    assert true_s[predicted_s.argmin()] <= true_s.min() + epsilon_s + 1e-9


def test_epsilon_is_reached() -> None:
    """Two ways of 1 s that are believed on, and are not: one seen full and one seen idle, means 1 and 3."""
    seen, mean = np.array([3.0, 1.0]), np.array([1.0, 3.0])
    predicted_s, true_s = seen, mean  # w = 1, rho = 0
    lost_s = float(true_s[predicted_s.argmin()] - true_s.min())
    assert lost_s == 2.0
    assert (
        most_loss_s(1.0, 1.0, 0.0, BACKGROUND_COMPETITORS) == 2 * lost_s
    )  # both errors at once: half of it is reached


CONGESTIONS = (
    CongestionSpec(kind="hotspot", period_s=1.5),
    CongestionSpec(kind="onoff", mean_on_s=0.5, mean_off_s=0.5),
    CongestionSpec(kind="onoff", mean_on_s=15.0, mean_off_s=15.0),
    CongestionSpec(kind="constant"),
)


@cache
def mean_transfer_ms(policy: str, congestion: CongestionSpec, refresh_s: float) -> float:
    """Over three seeds that nothing was chosen on."""
    scenarios = [
        Scenario(
            policy=policy,
            seed=seed,
            workload=WorkloadSpec(requests=500, max_output_tokens=64),
            congestion=congestion,
            oracle=OracleSpec(refresh_s=refresh_s),
        )
        for seed in (30, 31, 32)
    ]
    return float(np.mean([one.kv_transfer_ms for scenario in scenarios for one in run(scenario).requests]))


@pytest.mark.parametrize("congestion", CONGESTIONS, ids=lambda spec: f"{spec.kind} {spec.correlation_s:g} s")
def test_fresh_is_never_worse_than_no_telemetry_by_more_than_epsilon(congestion: CongestionSpec) -> None:
    static_ms = mean_transfer_ms("netkv_static", congestion, 1.0)
    for refresh_s in (1.0, 20.0):
        assert mean_transfer_ms("netkv_fresh", congestion, refresh_s) < (1 + EPSILON) * static_ms


def test_the_test_of_epsilon_can_fail() -> None:
    """NetKV-Full, which believes any snapshot, loses more where congestion moves faster than that."""
    static_ms = mean_transfer_ms("netkv_static", CONGESTIONS[0], 1.0)
    assert mean_transfer_ms("netkv_full", CONGESTIONS[0], 20.0) > (1 + EPSILON) * static_ms
