"""The same flows in SimGrid: an independent, published solver of max-min fair sharing must agree on every finish.

Installs Debian's libsimgrid-dev where it is missing (as root) and compiles `tests/simgrid_flows.cpp` against it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simulator.fluid import simulate_flows
from tests.support.fluid_workloads import build_simgrid_flows, fat_tree_workload, install_simgrid, simulate_in_simgrid

pytestmark = pytest.mark.optional


@pytest.fixture(scope="module")
def simgrid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    install_simgrid()
    return build_simgrid_flows(tmp_path_factory.mktemp("simgrid"))


@pytest.mark.parametrize(
    ("k", "load", "flows", "spread"),
    [(4, 0.5, 2000, 0.0), (4, 0.9, 2000, 0.5), (8, 0.3, 4000, 0.0), (8, 0.7, 3000, 0.3), (16, 0.2, 6000, 0.1)],
)
def test_every_finish_agrees_with_simgrid(simgrid: Path, k: int, load: float, flows: int, spread: float) -> None:
    """Fresh flows on each run: the seed is drawn anew, and printed if the test fails."""
    seed = int(np.random.SeedSequence().generate_state(1)[0])
    print(f"fat_tree_workload(k={k}, load={load}, flows={flows}, seed={seed}, spread={spread})")
    workload = fat_tree_workload(k, load, flows, seed, spread)
    ours = simulate_flows(*workload.flows)
    theirs, _ = simulate_in_simgrid(simgrid, workload)
    assert ours == pytest.approx(theirs, rel=1e-6)
    duration_s, their_duration_s = ours - workload.start_s, theirs - workload.start_s
    difference = np.abs(duration_s - their_duration_s) / their_duration_s
    print(f"durations differ by at most {difference.max():.1e}, {np.median(difference):.1e} at the median")
    assert np.quantile(difference, 0.99) < 1e-6
