"""The share of telemetry's gain that an old snapshot keeps: Fieller's interval by its definition and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.analysis import fieller, retained_gain, retention
from experiments.analysis.interval import Interval


def test_fieller_by_hand() -> None:
    """a = 6, b = 8, v11 = v22 = 1, v12 = 0, t = 2: (6 - 8 r)^2 = 4 (1 + r^2), that is 60 r^2 - 96 r + 32 = 0."""
    root = math.sqrt(96**2 - 4 * 60 * 32)
    assert fieller(6.0, 8.0, (1.0, 0.0, 1.0), 2.0) == pytest.approx(((96 - root) / 120, (96 + root) / 120))


@given(
    a=st.floats(-10, 10),
    b=st.floats(3, 10),
    spread=st.floats(0.1, 2),
    other=st.floats(0.1, 1),
    rho=st.floats(-0.9, 0.9),
)
def test_the_ends_are_where_the_difference_is_just_significant(
    a: float, b: float, spread: float, other: float, rho: float
) -> None:
    v11, v12, v22 = spread**2, rho * spread * other, other**2
    for end in fieller(a, b, (v11, v12, v22), 2.0):
        assert (a - end * b) ** 2 == pytest.approx(4 * (v11 - 2 * end * v12 + end**2 * v22), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("denominator", [0.0, 1.9, -1.9])
def test_without_a_significant_gain_the_share_has_no_bounds(denominator: float) -> None:
    assert fieller(1.0, denominator, (1.0, 0.5, 1.0), 2.0) == (-math.inf, math.inf)


def served(ttft_ms: np.ndarray[tuple[int], np.dtype[np.float64]], seeds: int) -> pd.DataFrame:
    numbers = np.arange(len(ttft_ms))
    seed = numbers // (len(ttft_ms) // seeds)
    return pd.DataFrame({"seed": seed, "request_id": numbers, "status": "completed", "ttft_ms": ttft_ms})


def test_nominal_intervals_hold_the_share_of_a_known_gain() -> None:
    rng, held = np.random.default_rng(0), 0
    for _ in range(200):
        base = rng.lognormal(5, 0.5, 240)
        gain = rng.normal(10, 10, 240)
        kept = 0.6 * gain + rng.normal(0, 5, 240)
        frames = [served(values, 12) for values in (base, base - gain, base - kept)]
        _, share = retained_gain(*frames, "ttft_ms")
        held += share.low <= 60 <= share.high
    assert 180 <= held <= 199  # 95 % of 200 is 190, its standard deviation 3.1


def test_the_fresh_snapshot_keeps_all_of_its_gain_and_no_requests_are_no_figure() -> None:
    base = np.linspace(100, 200, 80)
    without, fresh = served(base, 8), served(0.9 * base, 8)
    gain, share = retained_gain(without, fresh, fresh, "ttft_ms")
    assert gain.value == pytest.approx(15)
    assert (share.value, share.low, share.high) == pytest.approx((100, 100, 100))
    assert math.isnan(retained_gain(without.iloc[:0], fresh, fresh, "ttft_ms")[1].value)


def test_a_gain_is_kept_lost_undecided_or_there_is_none_to_lose() -> None:
    gain, none = Interval(10, 5, 15), Interval(1, -2, 4)
    shares = [Interval(95, 80, 110), Interval(30, 10, 45)]
    assert retention(gain, shares[:1]).verdict == "kept"
    assert retention(gain, [Interval(60, 40, 80)]).verdict == "undecided"
    assert (retention(gain, shares).verdict, retention(gain, shares).below) == ("lost", (1,))
    assert retention(none, shares).verdict == "nothing to lose"
