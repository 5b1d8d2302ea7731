"""How long a decode step lasts: a table of batch sizes and seconds, read piecewise linearly."""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise


class StepTable:
    """Step time of a decode batch, linear between the points of a table.

    Below the first point the first value applies; beyond the last point the last segment is extended (a single point
    applies everywhere). Sizes must increase, seconds must be positive and not decrease; `ValueError` otherwise.
    """

    def __init__(self, points: list[tuple[int, float]], time_dilation: float = 1.0) -> None:
        if not points or not time_dilation > 0:
            raise ValueError("a step table needs a point and a positive time dilation")
        for (size, step_s), (next_size, next_step_s) in pairwise(points):
            if next_size <= size or next_step_s < step_s:
                raise ValueError(f"step table falls between batch {size} and batch {next_size}")
        if points[0][0] < 1 or not 0 < points[0][1] <= points[-1][1] < float("inf"):
            raise ValueError("a step table holds batch sizes of at least 1 and positive seconds")
        self._sizes = [size for size, _ in points]
        self._steps_s = [step_s * time_dilation for _, step_s in points]

    @classmethod
    def parse(cls, text: str, time_dilation: float = 1.0) -> StepTable:
        """Read '1:0.030,16:0.034' (batch size : seconds); seconds are multiplied by `time_dilation`."""
        try:
            points = [(int(size), float(step_s)) for size, step_s in (point.split(":") for point in text.split(","))]
        except ValueError as error:
            raise ValueError(f"step table {text!r} is not 'SIZE:SECONDS,...'") from error
        return cls(points, time_dilation)

    def step_s(self, running: int) -> float:
        """Seconds of one step with `running` requests."""
        if running <= self._sizes[0] or len(self._sizes) == 1:
            return self._steps_s[0]
        right = min(bisect_left(self._sizes, running), len(self._sizes) - 1)
        left = right - 1
        slope = (self._steps_s[right] - self._steps_s[left]) / (self._sizes[right] - self._sizes[left])
        return self._steps_s[left] + slope * (running - self._sizes[left])
