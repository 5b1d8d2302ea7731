"""What our transfers achieved of the bandwidth that the model predicted for them, by tier.

The model of `View.available_Bps` sees the moment of the decision: not the transfers that join later, nor congestion
that has moved since the snapshot. How much that costs depends on the fabric and on the load, so it is learned.
"""

from __future__ import annotations

from itertools import accumulate
from operator import truediv

import numpy as np

from scheduler.arrays import Floats

PRIOR_S = 2.0
"""Seconds of transfers that took as long as predicted, which each tier starts from: a dozen usual ones. Ours, not
tuned."""


class Achieved:
    """The part of the predicted bandwidth that transfers got: `share`, shape [4] by tier, at most 1.

    Predicted over real time, both summed over the run's transfers of that tier; never more than in a nearer tier, whose
    links a farther path crosses, too. Without that bound a path that is limited by the sender's own NIC, as the nearer
    one is, would look better than it.
    """

    def __init__(self) -> None:
        self._predicted_s = [PRIOR_S] * 4
        self._took_s = [PRIOR_S] * 4
        self.share: Floats = np.ones(4)

    def see(self, tier: int, predicted_s: float, took_s: float) -> None:
        """A transfer has ended that took `took_s`; the model alone, without this correction, said `predicted_s`."""
        self._predicted_s[tier] += predicted_s
        self._took_s[tier] += took_s
        self.share = np.array([*accumulate(map(truediv, self._predicted_s, self._took_s), min, initial=1.0)][1:])
