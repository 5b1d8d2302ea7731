"""The cells of the paper's Table 2 beside ours: which are judged, and how."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from experiments.questions import QUESTIONS
from experiments.questions.load import cells_beside


def row(policy: str, speedup: float, ttft_ms: float, half_ms: float, **fields: Any) -> dict[str, Any]:
    """A row of results whose TBT and objective are known to be wrong."""
    made: dict[str, Any] = {
        "world": "analytic", "policy": policy, "speedup": speedup, "ttft_ms": ttft_ms,
        "ttft_low_ms": ttft_ms - half_ms, "ttft_high_ms": ttft_ms + half_ms, "tpot_ms": 30.0, "tpot_low_ms": 29.9,
        "tpot_high_ms": 30.1, "slo_attainment": 0.5, "slo_low": 0.49, "slo_high": 0.51,
        "ttft_change_percent": math.nan, "ttft_change_low": math.nan, "ttft_change_high": math.nan,
    }  # fmt: skip
    return {**made, **fields}


@pytest.mark.parametrize(
    ("ttft_ms", "half_ms", "verdict"),
    [
        (1710.0, 1.0, "inside"),
        (1700.0, 0.5, "outside"),  # the paper's own half width is 9 ms
        (1700.5, 1.0, "inside"),
        (1800.0, 50.0, "outside"),
        (1800.0, 200.0, "cannot tell"),
        (1710.0, math.nan, "cannot tell"),
    ],
)
def test_a_cell_is_judged_by_both_intervals(ttft_ms: float, half_ms: float, verdict: str) -> None:
    ttft, *others = cells_beside(row("paper_full", 2.0, ttft_ms, half_ms))
    assert (ttft.cell.quantity, ttft.cell.value, ttft.verdict, ttft.fitted) == ("mean_ttft", 1710, verdict, False)
    assert [one.verdict for one in others] == ["outside", "outside"]


def test_what_the_set_up_was_fitted_to_is_no_prediction() -> None:
    assert all(one.fitted for one in cells_beside(row("cla_star", 1.0, 1812, 10)))
    assert not any(one.fitted for one in cells_beside(row("cla_star", 2.5, 1812, 10)))
    assert not list(cells_beside(row("netkv_full", 1.0, 1600, 10)))
    rows = [row("cla_star", 1.0, 1812, 10), row("cla_star", 2.0, 1995, 10), row("paper_full", 2.0, 1800, 500)]
    first, *_ = QUESTIONS["load"].sentences(pd.DataFrame(rows))
    assert "of 6 predicted cells of Table 2" in first
    assert "1 come out in the analytic world, 4 do not, and of 1 our intervals are too wide to tell; 3 more" in first
