"""The statistics of a comparison, against sums done by hand, numpy, and made-up runs whose truth is known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.analysis.percentiles import weighted_percentiles
from experiments.analysis.statistics import (
    LEAST_UNITS,
    SHARE,
    SHARE_DIFFERENCE,
    Estimate,
    counted,
    difference,
    growth,
    holm,
    mean_interval,
    paired_change,
    percentile_interval,
    relative_change,
    share_alike,
    units_of,
)
from experiments.running.summary import summarise
from tests.support.made_runs import SLO, frame, lost, record


def runs(seeds: int, requests: int, ttft_ms: Any, **columns: Any) -> pd.DataFrame:
    """Made-up runs, a seed each: `ttft_ms` is a number, an array over all requests, or one a request."""
    numbers = np.tile(np.arange(requests), seeds)
    made = {"seed": np.repeat(np.arange(seeds), requests), "request_id": numbers, "ttft_ms": ttft_ms}
    table = pd.DataFrame({**made, "status": "completed", "verdict": "valid", **columns})
    return table.assign(run=table["seed"].map("seed{}".format))


# Weighted percentiles


@given(
    counted=st.lists(st.tuples(st.floats(-1e6, 1e6), st.integers(0, 6)), min_size=1, max_size=12),
    percents=st.lists(st.floats(0, 100), min_size=1, max_size=4),
)
def test_weighted_percentiles_are_numpys_of_the_repeated_values(
    counted: list[tuple[float, int]], percents: list[float]
) -> None:
    values = np.array([value for value, _ in counted])
    counts = np.array([count for _, count in counted])
    counts[0] += 1
    expected = np.percentile(np.repeat(values, counts), percents)
    assert weighted_percentiles(values, counts, percents) == pytest.approx(expected, rel=1e-9, abs=1e-6)


def test_counted_gaps_are_summarised_as_if_they_were_written_out() -> None:
    gaps_ms, counts = [30.0, 10.0, 500.0, 20.0], [3, 90, 1, 0]
    requests = frame(record(0), record(1))
    counted = summarise(requests, gaps_ms, 10.0, SLO, counts)
    written_out = summarise(requests, np.repeat(gaps_ms, counts), 10.0, SLO)
    assert counted == pytest.approx(written_out)
    assert counted["mean_itl_ms"] == pytest.approx((90 + 900 + 500) / 94)


# Comparing


def test_a_change_is_that_of_the_means_over_requests_completed_in_both() -> None:
    before = frame(record(0, 100.0), record(1, 300.0), record(2, 900.0), seed=0)
    after = frame(record(0, 90.0), record(1, 270.0), lost(2, "failed", "reset"), seed=0)
    change = paired_change(before, after, "ttft_ms")
    assert change.percent == pytest.approx(-10.0)
    assert (change.low, change.high) == pytest.approx((-10.0, -10.0))  # every pair changed alike
    assert change.pairs == 2


def test_requests_are_paired_by_seed_and_number_whatever_their_order() -> None:
    before = pd.concat([frame(record(0, 100.0), seed=0), frame(record(0, 200.0), seed=1)])
    after = pd.concat([frame(record(0, 220.0), seed=1), frame(record(0, 110.0), seed=0)])
    change = paired_change(before, after, "ttft_ms")
    assert change.percent == pytest.approx(10.0)
    assert change.high - change.low == pytest.approx(0, abs=1e-9)


def test_the_interval_holds_the_change_and_repeats() -> None:
    rng = np.random.default_rng(0)
    before = frame(*(record(k, 100.0) for k in range(200)), seed=0)
    after = frame(*(record(k, float(90 + rng.normal(0, 20))) for k in range(200)), seed=0)
    change = paired_change(before, after, "ttft_ms")
    assert change.low < change.percent < change.high < 0
    # The standard error of the mean of 200 draws of deviation 20 is 1.41: 2 x 1.96 x 1.41 = 5.5.
    assert change.high - change.low == pytest.approx(5.5, rel=0.2)
    assert paired_change(before, after, "ttft_ms") == change


def test_nothing_in_common_is_no_number() -> None:
    change = paired_change(frame(record(0), seed=0), frame(record(0), seed=1), "ttft_ms")
    assert change.pairs == 0
    assert all(map(math.isnan, (change.percent, change.low, change.high)))


def test_the_interval_of_a_mean() -> None:
    assert mean_interval(np.array([5.0, 5.0, 5.0])) == (5.0, 5.0, 5.0)
    mean, low, high = mean_interval(np.arange(101.0))
    assert mean == 50.0
    assert low == pytest.approx(50 - 1.96 * 29.15 / math.sqrt(101), abs=0.8)
    assert high == pytest.approx(50 + 1.96 * 29.15 / math.sqrt(101), abs=0.8)
    assert all(map(math.isnan, mean_interval(np.array([]))))


def test_the_interval_of_a_mean_by_units_is_students_over_the_means_of_the_units() -> None:
    values = np.array([1.0, 3.0, 5.0, 7.0, 9.0, 11.0])
    mean, low, high = mean_interval(values, units=np.array([0, 0, 1, 1, 2, 2]))
    # Unit means 2, 6, 10: their standard error is 4 / sqrt(3), and t(0.975, 2) is 4.303. The bootstrap adds its noise.
    assert mean == 6.0
    assert (low, high) == pytest.approx((6 - 4.303 * 4 / math.sqrt(3), 6 + 4.303 * 4 / math.sqrt(3)), rel=0.15)


def test_the_interval_of_a_percentile() -> None:
    widths = []
    for seed in range(40):
        values = np.random.default_rng(seed).uniform(0, 100, 4000)
        middle, low, high = percentile_interval(values, 90, np.repeat(np.arange(20), 200))
        assert middle == np.percentile(values, 90)
        widths.append(high - low)
    # A percentile p of n uniform draws has the standard error sqrt(p (1 - p) / n) of their range; t(0.975, 19) is 2.09.
    assert np.mean(widths) == pytest.approx(2 * 2.09 * 100 * math.sqrt(0.9 * 0.1 / 4000), rel=0.1)
    assert all(map(math.isnan, percentile_interval(np.array([]), 90, np.array([], np.int64))))


# What counts


def test_the_first_tenth_of_every_run_and_invalid_runs_do_not_count() -> None:
    good, bad = runs(2, 20, 1.0), runs(1, 20, 1.0, verdict="invalid").assign(run="bad", seed=7)
    shorter = runs(1, 5, 1.0).assign(run="short", seed=8)
    kept = counted(pd.concat([good, bad, shorter]))
    assert kept.groupby("run")["request_id"].min().to_dict() == {"seed0": 2, "seed1": 2, "short": 0}
    assert kept.groupby("run").size().to_dict() == {"seed0": 18, "seed1": 18, "short": 5}
    assert counted(good, warm_up=0.5)["request_id"].min() == 10


def test_the_cut_takes_the_same_requests_from_a_run_whose_first_ones_were_lost() -> None:
    whole = runs(1, 20, 1.0)
    holed = whole.assign(status=["failed"] * 4 + ["completed"] * 16)
    assert counted(whole)["request_id"].tolist() == counted(holed)["request_id"].tolist()


@pytest.mark.parametrize(("seeds", "units"), [(1, 8), (2, 8), (3, 9), (5, 10), (7, 14), (8, 8), (11, 11)])
def test_there_are_enough_units_and_none_spans_two_runs(seeds: int, units: int) -> None:
    table = runs(seeds, 40, 1.0)
    found = units_of(table)
    assert sorted(set(found)) == list(range(units))
    assert units >= LEAST_UNITS
    for unit in range(units):
        part = table[found == unit]
        assert part["seed"].nunique() == 1
        numbers = part["request_id"].tolist()
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert len(numbers) in (40 * seeds // units, -(-40 * seeds // units)), "blocks are of one length"


def test_units_depend_on_seed_and_number_alone_not_on_the_order_of_rows() -> None:
    table = runs(2, 30, 1.0)
    shuffled = table.sample(frac=1, random_state=0)
    assert units_of(shuffled).tolist() == units_of(table)[shuffled.index].tolist()
    assert units_of(table.iloc[:0]).tolist() == []


def test_fewer_requests_than_blocks_are_a_unit_each() -> None:
    assert units_of(runs(1, 3, 1.0)).tolist() == [0, 1, 2]


def test_the_units_of_tbt_are_the_runs_however_few() -> None:
    assert units_of(runs(3, 40, 1.0), "tpot_ms").tolist() == np.repeat([0, 1, 2], 40).tolist()


# Intervals that are honest


def shared_queues(rng: np.random.Generator, seeds: int, gain: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Runs of 40 requests that share what their run was like: the change varies from run to run, not within it."""
    of_run = np.repeat(rng.normal(gain, 0.05, seeds), 40)
    before = rng.lognormal(7, 0.5, 40 * seeds)
    return runs(seeds, 40, before), runs(seeds, 40, before * (1 + of_run))


@pytest.mark.parametrize("seeds", [8, 12])
def test_nominal_intervals_hold_the_truth_when_requests_of_a_run_are_alike(seeds: int) -> None:
    rng = np.random.default_rng(0)
    held = naive = 0
    for _ in range(200):
        before, after = shared_queues(rng, seeds, -0.10)
        change = paired_change(before, after, "ttft_ms")
        held += change.low <= -10 <= change.high
        as_independent = before["ttft_ms"] * 0 + 100 * (after["ttft_ms"] / before["ttft_ms"] - 1)
        _, low, high = mean_interval(as_independent.to_numpy())
        naive += low <= -10 <= high
    assert 182 <= held <= 199  # 95 % of 200 is 190, its standard deviation 3.1
    assert naive < 90  # as if requests were independent: not half of them


def test_a_planted_effect_is_found_and_none_where_there_is_none() -> None:
    rng = np.random.default_rng(1)
    p_values = {
        gain: [paired_change(*shared_queues(rng, 8, gain), "ttft_ms").p for _ in range(100)] for gain in (0, -0.1)
    }
    assert np.mean(np.array(p_values[-0.1]) < 0.05) > 0.95
    assert 0 < np.mean(np.array(p_values[0]) < 0.05) < 0.12


def test_p_values_agree_with_intervals() -> None:
    for value, error, units in ((1.0, 0.5, 5), (3.0, 1.0, 5), (2.0, 1.0, 50), (-3.0, 1.0, 9)):
        found = Estimate(value, error, units, 100)
        low, high = found.interval()
        assert (found.p() < 0.05) == (low > 0 or high < 0)
        assert found.p(truth=high) == pytest.approx(0.05)
        assert found.p(truth=value) == 1.0


def test_an_effect_of_the_detectable_size_is_found_four_times_in_five() -> None:
    found = Estimate(0.0, 2.0, 9, 100)
    assert found.detectable() == pytest.approx(2 * (2.306 + 0.889), abs=2e-3)  # t(0.975, 8) and t(0.8, 8)
    rng = np.random.default_rng(4)
    seen = found.detectable() + rng.normal(0, 2.0, (2000, 9)) * 3
    hits = [abs(one.mean()) > 2.306 * one.std(ddof=1) / 3 for one in seen]
    assert np.mean(hits) == pytest.approx(0.8, abs=0.04)
    assert math.isnan(Estimate(1.0, math.nan, 1, 5).detectable())


def test_intervals_of_many_comparisons_are_wider_by_bonferroni() -> None:
    found = Estimate(0.0, 1.0, 9, 100)
    assert found.interval()[1] == pytest.approx(2.306, abs=1e-3)  # t(0.975, 8)
    assert found.interval(comparisons=5)[1] == pytest.approx(3.355, abs=1e-3)  # t(0.995, 8)


def test_one_unit_tells_nothing_of_certainty_and_no_spread_tells_all() -> None:
    alone = paired_change(runs(1, 1, 100.0), runs(1, 1, 90.0), "ttft_ms")
    assert alone.percent == pytest.approx(-10)
    assert alone.units == 1
    assert all(map(math.isnan, (alone.low, alone.high, alone.p)))
    same = paired_change(runs(8, 5, 100.0), runs(8, 5, 100.0), "ttft_ms")
    assert (same.low, same.high, same.p) == (0.0, 0.0, 1.0)
    sure = paired_change(runs(8, 5, 100.0), runs(8, 5, 50.0), "ttft_ms")
    assert (sure.low, sure.high, sure.p) == (-50.0, -50.0, 0.0)


# Other figures of a comparison


def test_tails_are_compared_by_their_percentiles() -> None:
    rng = np.random.default_rng(2)
    before = runs(10, 100, rng.exponential(100, 1000))
    after = before.assign(ttft_ms=np.where(before["ttft_ms"] > 300, 0.5, 1.0) * before["ttft_ms"])
    p99, p50 = (relative_change(before, after, "ttft_ms", percentile) for percentile in (99, 50))
    expected = np.percentile(after["ttft_ms"], 99) / np.percentile(before["ttft_ms"], 99) - 1
    assert p99.value == pytest.approx(100 * expected)
    assert p99.interval()[1] < 0
    assert p50.value == 0.0


def test_the_effect_size_counts_who_gained_and_who_lost() -> None:
    before = runs(1, 10, 100.0)
    after = before.assign(ttft_ms=[90.0] * 6 + [110.0] * 3 + [100.0])
    assert relative_change(before, after, "ttft_ms").dominance == pytest.approx(0.3)


def test_a_lost_request_has_missed_its_objective_but_has_no_latency() -> None:
    before = frame(*(record(k, 100.0) for k in range(4)), seed=0, slo_met=[True, True, True, False])
    after = frame(record(0, 90.0), record(1, 90.0), record(2, 90.0), lost(3, "failed", "x"), seed=0, slo_met=False)
    assert difference(before, after, "slo_met", completed=False).value == -0.75
    assert difference(before, after, "ttft_ms", completed=True).value == -10.0


def test_an_answer_of_one_token_enters_no_difference_of_tbt() -> None:
    before = frame(record(0, tpot_ms=30.0), record(1, tpot_ms=math.nan, output_length=1), seed=0)
    after = frame(record(0, tpot_ms=32.0), record(1, tpot_ms=math.nan, output_length=1), seed=0)
    found = difference(before, after, "tpot_ms", completed=True)
    assert (found.value, found.pairs) == (2.0, 1)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_an_interval_of_tbt_holds_the_truth_with_few_runs_that_differ_as_a_whole(seeds: int) -> None:
    """Every request of a run steps in the same batches, so their TBT changes together."""
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        rise = np.repeat(rng.normal(1.0, 0.3, seeds), 40)
        before = runs(seeds, 40, 1.0, tpot_ms=30 + rng.normal(0, 0.1, 40 * seeds))
        low, high = difference(
            before, before.assign(tpot_ms=before["tpot_ms"] + rise), "tpot_ms", completed=True
        ).interval()
        held += low <= 1.0 <= high
    assert 180 <= held <= 199
    alone = runs(1, 40, 1.0, tpot_ms=30.0)
    assert math.isnan(difference(alone, alone, "tpot_ms", completed=True).interval()[0])


def test_the_share_that_stayed_the_same() -> None:
    one = runs(2, 8, 1.0, tier=[1, 2, 3, 3] * 4)
    other = runs(2, 8, 1.0, tier=[1, 2, 3, 1] * 4)
    found = share_alike(one, other, "tier")
    assert (found.value, found.pairs, found.units) == (0.75, 16, 8)
    assert math.isnan(found.dominance)


def test_no_interval_of_a_share_reaches_beyond_what_can_be() -> None:
    nearly_all = np.array([1.0] * 7 + [0.9])
    assert mean_interval(nearly_all, units=np.arange(8))[2] > 1
    _, low, high = mean_interval(nearly_all, units=np.arange(8), bounds=SHARE)
    assert 0 < low < high == 1.0
    gained = Estimate(0.9, 0.2, 8, 80, bounds=SHARE_DIFFERENCE)
    assert gained.interval()[1] == 1.0
    assert gained.times(-100).interval()[0] == -100.0
    assert share_alike(runs(1, 8, 1.0, tier=1), runs(1, 8, 1.0, tier=[1] * 7 + [2]), "tier").interval()[1] == 1.0


def test_how_a_difference_grows_with_another_column() -> None:
    rng = np.random.default_rng(3)
    tokens = rng.integers(100, 10_000, 400)
    before = runs(4, 100, 50.0, input_length=tokens)
    after = runs(4, 100, 50.0 + 20 + 0.3 * tokens + rng.normal(0, 100, 400))
    found = growth(before, after, "ttft_ms", "input_length")
    low, high = found.interval()
    assert low < 0.3 < high
    assert high - low < 0.02
    assert math.isnan(growth(before.assign(input_length=7), after, "ttft_ms", "input_length").value)


# Many comparisons


def test_holm_by_hand() -> None:
    # In order .005, .01, .03, .04 are multiplied by 4, 3, 2, 1, and never fall below one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_is_that_of_statsmodels_with_ties_and_without() -> None:
    from statsmodels.stats.multitest import multipletests  # two seconds to load, in the one process that needs it

    for digits in (1, 12):
        p_values = list(np.random.default_rng(5).beta(0.3, 2, 200).round(digits))
        assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1], abs=1e-12)


def test_a_comparison_that_could_not_be_made_is_not_counted() -> None:
    found = holm([0.01, math.nan, 0.04])
    assert found[0] == pytest.approx(0.02)
    assert math.isnan(found[1])
    assert found[2] == pytest.approx(0.04)
