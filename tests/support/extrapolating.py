"""Straight lines through the cells of a study, seed by seed, and where they lead: `tests.bench.extrapolation`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.analysis import Estimate

Point = tuple[float, ...]
"""What an error is explained by in one cell, each less its value in the system that is asked about."""


def at_the_origin(errors: Mapping[int, Sequence[tuple[Point, float]]]) -> tuple[Estimate, list[Estimate]]:
    """The error where every explaining figure is 0, and by how much it grows with each: a plane through the cells of
    each seed by least squares, then mean and standard error over seeds, which are what is independent.

    A seed whose cells do not settle a plane, or pass through any, is left out.
    """
    planes = []
    for cells in errors.values():
        points = np.array([(1.0, *point) for point, _ in cells])
        if len(cells) > points.shape[1] and np.linalg.matrix_rank(points) == points.shape[1]:
            planes.append(np.linalg.lstsq(points, np.array([error for _, error in cells]), rcond=None)[0])
    intercept, *slopes = (over_seeds(column) for column in np.transpose(planes))
    return intercept, slopes


def over_seeds(values: Sequence[float]) -> Estimate:
    """The mean of a figure of each seed, with Student's interval."""
    count = len(values)
    error = float(np.std(values, ddof=1)) / np.sqrt(count) if count > 1 else float("nan")
    return Estimate(float(np.mean(values)), error, count, count)
