"""Random flows on a classic fat-tree, and the same flows in SimGrid: shared by the optional tests and the benchmarks.

The fat-tree is the one of Al-Fares, Loukissas and Vahdat (SIGCOMM 2008): k pods of k/2 edge and k/2 aggregation
switches, k^3/4 hosts, every link of one capacity in each direction.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
LinkPath = NDArray[np.int64]

LINK_BPS = 1.25e9  # 10 Gbit/s
MEAN_SIZE_B = 1e8

# Pure max-min: CM02 without the traffic of acknowledgements or TCP's window. SimGrid's default model, LV08, takes 3 %
# off each link.
SIMGRID_OPTIONS = (
    "network/model:CM02",
    "network/crosstraffic:0",
    "network/TCP-gamma:0",
    "maxmin/precision:1e-9",
    "surf/precision:1e-9",
)


class Workload(NamedTuple):
    """Flows in order of start. Flows of one pair of hosts share a path, because SimGrid routes by pair."""

    hosts: int
    capacity_Bps: Floats
    start_s: Floats
    size_B: Floats
    ends: list[tuple[int, int]]  # source and destination host
    paths: list[LinkPath]

    @property
    def flows(self) -> tuple[Floats, Floats, Floats, list[LinkPath]]:
        """The arguments of `simulate_flows`."""
        return self.capacity_Bps, self.start_s, self.size_B, self.paths

    def mean_active(self, finish_s: Floats) -> float:
        """Return how many flows are present on average between the first start and the last."""
        first, last = self.start_s[0], self.start_s[-1]
        return float((np.minimum(finish_s, last) - self.start_s).sum() / (last - first))


def fat_tree_workload(k: int, load: float, flows: int, seed: int, spread: float = 0.0) -> Workload:
    """Return Poisson arrivals of exponential sizes between random hosts, each pair on one random shortest path.

    load: offered bytes as a share of what all hosts could send. spread: capacities lie that far around their mean,
    relatively. Sizes are whole bytes, as SimGrid wants.
    """
    rng = np.random.default_rng(seed)
    half = k // 2
    hosts, edges = k * half * half, k * half * half  # `edges`: links from edge to aggregation switches, one way
    host_up, host_down, edge_up, edge_down, core_up, core_down = np.cumsum([0, hosts, hosts, edges, edges, edges])

    def random_path(source: int, target: int) -> LinkPath:
        aggregation, core = rng.integers(0, half, 2)
        from_edge, to_edge = source // half, target // half  # edge switches, numbered through all pods
        from_pod, to_pod = from_edge // half, to_edge // half
        path = [host_up + source]
        if from_edge != to_edge:
            path.append(edge_up + from_edge * half + aggregation)
            if from_pod != to_pod:
                path.append(core_up + (from_pod * half + aggregation) * half + core)
                path.append(core_down + (to_pod * half + aggregation) * half + core)
            path.append(edge_down + to_edge * half + aggregation)
        path.append(host_down + target)
        return np.array(path, dtype=np.int64)

    start_s = np.cumsum(rng.exponential(MEAN_SIZE_B / (load * hosts * LINK_BPS), flows))
    size_B = np.ceil(rng.exponential(MEAN_SIZE_B, flows))
    path_of: dict[tuple[int, int], LinkPath] = {}
    ends: list[tuple[int, int]] = []
    for _ in range(flows):
        source, target = (int(host) for host in rng.choice(hosts, 2, replace=False))
        ends.append((source, target))
        if (source, target) not in path_of:
            path_of[source, target] = random_path(source, target)
    capacity_Bps = LINK_BPS * rng.uniform(1 - spread, 1 + spread, 2 * hosts + 4 * edges)
    return Workload(hosts, capacity_Bps, start_s, size_B, ends, [path_of[pair] for pair in ends])


def install_simgrid() -> None:
    """Install Debian's SimGrid with its headers, and a compiler, unless they are there. Needs root if they are not."""
    if Path("/usr/include/simgrid/s4u.hpp").exists() and shutil.which("g++"):
        return
    subprocess.run(["apt-get", "update", "-qq"], check=True)
    packages = ["libsimgrid-dev", "g++"]
    subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages], check=True)


def build_simgrid_flows(folder: Path) -> Path:
    """Compile `simgrid_flows.cpp`, optimised, and return the program."""
    program = folder / "simgrid_flows"
    source = Path(__file__).with_name("simgrid_flows.cpp")
    subprocess.run(["g++", "-std=c++17", "-O3", "-DNDEBUG", source, "-o", program, "-lsimgrid"], check=True)
    return program


def simulate_in_simgrid(program: Path, workload: Workload) -> tuple[Floats, float]:
    """Return when each flow ends, s, and the CPU seconds that SimGrid took, reading and routing not counted."""
    lines = [f"{workload.hosts} {len(workload.capacity_Bps)} {len(workload.paths)}"]
    lines.append(" ".join(repr(float(capacity)) for capacity in workload.capacity_Bps))
    for start, size, (source, target), path in zip(*workload[2:], strict=True):
        lines.append(f"{float(start)!r} {int(size)} {source} {target} {len(path)} {' '.join(map(str, path.tolist()))}")
    options = [f"--cfg={option}" for option in SIMGRID_OPTIONS]
    command = [str(program), *options, "--log=root.thres:error"]
    answer = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=True)
    cpu_s, *finish_s = map(float, answer.stdout.split())
    return np.array(finish_s), cpu_s
