"""What telemetry gains by its refresh interval and the correlation time of the congestion, in closed form.

Derivations are in docs/explanation/refresh-theory.md, tests in tests/unit/experiments/test_refresh_theory.py.
`experiments.questions.refresh_theory` holds the formulas against a map that was measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SMALLEST_RATIO = 1e-12
"""Of a transfer to tau: below it nothing is lost."""


def mean_kept(ratio: float) -> float:
    """phi(x) = (1 - exp(-x)) / x: what is left on average of exp(-age / tau) over ages from 0 to x tau; 1 at 0."""
    return 1.0 if ratio == 0 else -math.expm1(-ratio) / ratio


def kept_over_transfers(transfer_s: Floats, tau_s: float, counts: Floats | None = None) -> float:
    """D(tau): the same over the time that transfers take, each counted by its own duration, seconds. 1 without any.

    counts: how many transfers each of them stands for; one without.
    """
    time_s = transfer_s if counts is None else transfer_s * counts
    total_s = float(time_s.sum())
    if total_s <= 0:
        return 1.0
    ratio = np.maximum(transfer_s / tau_s, SMALLEST_RATIO)
    return float((time_s * -np.expm1(-ratio) / ratio).sum()) / total_s


def still_true(refresh_s: float, tau_s: float, poll_s: float = 0.0, over_transfers: float = 1.0) -> float:
    """K = phi(R / tau) phi(poll / tau)^2 D(tau): the part of what a snapshot told that holds while a transfer lasts.

    phi(R / tau) is (tau / R) (1 - exp(-R / tau)), over the ages of a snapshot in use. A sample is the mean over a poll
    interval and is read up to one after its end.
    """
    return mean_kept(refresh_s / tau_s) * mean_kept(poll_s / tau_s) ** 2 * over_transfers


@dataclass(frozen=True)
class GainFit:
    """gain = (g + c) K - c by least squares. gain: g; cost: c, of believing a snapshot that tells nothing.

    r_squared: share of the variance of the gains that the formula explains, against their mean; it can be below 0.
    rms: root of the mean square of what is left, in the unit of the gains.
    """

    gain: float
    cost: float
    r_squared: float
    rms: float

    def at(self, still_true: float) -> float:
        """The gain that the formula gives."""
        return (self.gain + self.cost) * still_true - self.cost


def fit_gain(still_true: Sequence[float], gains: Sequence[float], *, costless: bool) -> GainFit:
    """Fit the formula to measured gains, a value a cell. `costless`: with c = 0. ValueError without enough cells."""
    kept, measured = np.array(still_true, dtype=float), np.array(gains, dtype=float)
    if len(kept) != len(measured) or len(kept) < 3:
        raise ValueError(f"{len(kept)} and {len(measured)} cells: three of both were expected")
    if costless:
        slope, offset = float(kept @ measured / (kept @ kept)), 0.0
    else:
        slope, offset = (float(value) for value in np.polyfit(kept, measured, 1))
    left = measured - (slope * kept + offset)
    about_mean = float(((measured - measured.mean()) ** 2).sum())
    squares = float(left @ left)
    r_squared = 1 - squares / about_mean if about_mean > 0 else math.nan
    return GainFit(slope + offset, 0.0 - offset, r_squared, math.sqrt(squares / len(measured)))


def most_loss_s(idle_transfer_s: float, weight_error: float, mean_error: float, competitors: float) -> float:
    """epsilon = 2 t (b |w - rho| + mu): the most that a decision by a weighed snapshot can cost more than any other.

    t: the transfer on an idle path, seconds. weight_error: |w - rho|. mean_error: mu, of the mean slowdown, a ratio.
    competitors: b; a slowdown lies in [1, 1 + b].
    """
    return 2 * idle_transfer_s * (competitors * weight_error + mean_error)
