"""The planes of `tests.bench.extrapolation`: what they find in errors that were made up."""

from __future__ import annotations

import math

import pytest

from tests.support.extrapolating import Point, at_the_origin, over_seeds

POINTS: tuple[Point, ...] = ((1.0, 2.5), (0.5, 2.5), (0.25, 2.5), (1.0, 5.0), (0.5, 5.0))


def plane(intercept: float) -> list[tuple[Point, float]]:
    return [((x, y), intercept + 3 * x - 0.4 * y) for x, y in POINTS]


def test_the_plane_of_each_seed_is_found_and_seeds_are_what_varies() -> None:
    intercept, (by_x, by_y) = at_the_origin({0: plane(1.0), 1: plane(2.0), 2: plane(3.0)})
    assert (intercept.value, by_x.value, by_y.value) == pytest.approx((2.0, 3.0, -0.4))
    assert intercept.error == pytest.approx(1 / math.sqrt(3))
    assert by_x.error == pytest.approx(0, abs=1e-9)
    low, high = intercept.interval()
    assert high - low == pytest.approx(2 * 4.302653 / math.sqrt(3), rel=1e-5)  # Student's t, 2 degrees of freedom


def test_a_seed_whose_cells_settle_no_plane_is_left_out() -> None:
    flat = [((x, 2.5), 9.0) for x, _ in POINTS]
    intercept, _ = at_the_origin({0: plane(1.0), 1: plane(2.0), 2: plane(7.0)[:3], 3: flat})
    assert (intercept.value, intercept.units) == (pytest.approx(1.5), 2)


def test_one_seed_has_no_interval() -> None:
    assert math.isnan(over_seeds([1.0]).interval()[0])
