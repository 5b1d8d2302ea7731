"""Every margin, bound and claimed figure that decides a word: each once, with its unit and whose choice it is.

"The paper's" figures are those of its abstract (arXiv 2606.03910; which cells they are: `experiments.published` and its
tests); "ours" were fixed before anything was measured, for
the paper gives no test. The confidence of every interval and the warm-up cut belong to `statistics`.
"""

from __future__ import annotations

# -- What counts as unchanged -----------------------------------------------------------------------------------------

TTFT_MARGIN_PERCENT = 5.0
"""Percent of the mean TTFT, ours: a smaller change is none in practice (invariance, C3)."""

KV_MARGIN_PERCENT = 5.0
"""Percent of the mean KV transfer, ours: a smaller change is none in practice. The transfer is the part of TTFT that
telemetry is about."""

LEAST_RETAINED_PERCENT = 50.0
"""Percent of the gain of a fresh telemetry snapshot over none, ours: an old one that keeps less has lost it."""

TBT_MARGIN_MS = 0.5
"""Milliseconds of the mean time between tokens, the paper's: its bound on the overhead of NetKV (C7)."""

SLO_MARGIN_POINTS = 5.0
"""Percentage points of SLO attainment, ours: a smaller spread is none in practice."""

SAME_TIER_PERCENT = 90.0
"""Percent of the requests, ours: C3 carries over to runs where so many keep the tier that they have with the freshest
telemetry snapshot."""

LEAST_SNAPSHOTS = 3
"""Telemetry snapshots, ours: a run whose decisions were based on fewer says nothing of a refresh interval."""

# -- What the paper claims --------------------------------------------------------------------------------------------

CLAIMED_SAVED_OVER_ROUND_ROBIN_PERCENT = 21.2
"""Percent of the mean TTFT saved, `up to`, the paper's (C4)."""

CLAIMED_SAVED_OVER_CLA_STAR_PERCENT = 17.6
"""Percent of the mean TTFT saved, `up to`, the paper's (C5)."""

CLAIMED_SLO_GAIN_POINTS = 20.1
"""Percentage points of SLO attainment, `up to`, the paper's (C6)."""

CLAIMED_DECISION_SLOPE = 1.0
"""Log-log slope of the decision time over the number of decode instances, the paper's: O(|D|) (C2)."""

CLAIMED_GPUS = 64
"""GPUs of the fabric that C4 names, the paper's."""

# -- What it takes to decide a claim ----------------------------------------------------------------------------------

LEAST_SHARE_OF_CLAIM = 0.5
"""Share of the claimed figure, ours: an interval that also holds figures below it decides nothing, however high it
reaches."""

LEAST_CONFIGURATIONS = 4
"""Workloads or values of what is varied, ours: so many it takes to speak of all configurations. The emulated topology
sweep of the quick profile has as many."""

ARBITRARILY_BAD_RATIOS = (2.0, 10.0, 100.0, 1000.0)
"""How many times as slow as NetKV cache-aware-only has to become at some finite context, ours (C1)."""
