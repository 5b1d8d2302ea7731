"""The statistics of a comparison, against sums done by hand, numpy, and made-up runs whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.statistics import weighted_percentiles
from experiments.summary import summarise
from tests.made_runs import record
from tests.test_summary import SLO, frame

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
