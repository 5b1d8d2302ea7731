"""Our sockets beside a transfer engine: what a transfer takes on a cable, and where its connections go in a fabric.

    python -m tests.bench.engines cable              # two namespaces, one shaped cable: half a minute
    python -m tests.bench.engines fabric --out DIR   # whole runs, two of a seed with each engine: about three minutes

Both need root and the engine's package. `fluid` is the exact fair-sharing answer: payload at the port's rate, of which
transfers that go on at once have equal shares. `fabric` makes what is not in DIR yet.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from experiments.comparing import REPLAY, agreement, collisions, read_recorded, replay_table
from experiments.running import read_manifest, read_table
from tests.support.live.cable import cable
from tests.support.live.engine_pair import STRIPES, EnginePair
from topologies import Shape

ENGINES = ("sockets", "mooncake")
RATE_BPS = 40e6
PAYLOAD = 1448 / 1514
FLUID_BPS = RATE_BPS * PAYLOAD
SIZES = (16_000, 64_000, 250_000, 1_000_000, 4_000_000)
SHARED_BYTES = 500_000
SMALL_BYTES, SMALL = 8_000, 64
ROUNDS = 7
UNSHAPED_BYTES = 64_000_000

RUNS = ("a", "b")
RUN = ("--policy", "cla", "--requests", "90", "--congestion", "none", "--seed", "3", "--set", "workload.speedup=3")
RUN_OPTIONS = (*RUN, *("--set", "workload.max_input_tokens=24000", "--set", "workload.max_output_tokens=8"))


def cpu_s(pid: int) -> float:
    """Seconds on a processor of all threads of a process."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def resident_MB(pid: int) -> float:
    """Memory that a process has in use."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def connections(end: Sequence[str]) -> int:
    """TCP connections that are established in a namespace."""
    shown = subprocess.run([*end, "ss", "-tnH", "state", "established"], capture_output=True, text=True, check=True)
    return len(shown.stdout.splitlines())


def alone(pairs: dict[str, EnginePair]) -> None:
    print(f"\nOne blob on an idle path of {RATE_BPS / 1e6:g} Mbit/s, median of {ROUNDS}, engines in turn")
    print("| bytes | fluid, ms | " + " | ".join(f"{engine}, ms | over fluid" for engine in ENGINES) + " |")
    print("|---|---|" + "---|---|" * len(ENGINES))
    for size in SIZES:
        took_s: dict[str, list[float]] = {engine: [] for engine in ENGINES}
        for _ in range(ROUNDS):
            for engine, pair in pairs.items():
                took_s[engine].append(pair.move(size).took_s)
        fluid_s = 8 * size / FLUID_BPS
        cells = [
            f"{1e3 * statistics.median(took):.1f} | {1e3 * (statistics.median(took) - fluid_s):+.1f} ms"
            f" ({statistics.median(took) / fluid_s - 1:+.0%})"
            for took in took_s.values()
        ]
        print(f"| {size:,} | {1e3 * fluid_s:.1f} | {' | '.join(cells)} |")


def at_once(pair: EnginePair, count: int, size: int) -> list[float]:
    """Blobs of one pair of workers at once: how long each took, in order of their ends."""
    numbers = [pair.start(size) for _ in range(count)]
    return sorted(pair.end(number).took_s for number in numbers)


def together(pairs: dict[str, EnginePair]) -> None:
    print(f"\nBlobs of {SHARED_BYTES:,} bytes of one pair at once: first, mean and last end, ms, medians of 3")
    print("| blobs | fluid (all) | one after another | " + " | ".join(ENGINES) + " |")
    print("|---|---|---|" + "---|" * len(ENGINES))
    for count in (2, 4, 8):
        one_s = 8 * SHARED_BYTES / FLUID_BPS
        serial = [one_s * (number + 1) for number in range(count)]
        cells = []
        for pair in pairs.values():
            rounds = np.median([at_once(pair, count, SHARED_BYTES) for _ in range(3)], axis=0)
            cells.append(three(rounds))
        print(f"| {count} | {1e3 * one_s * count:.0f} | {three(serial)} | {' | '.join(cells)} |")
    print(f"\n{SMALL} blobs of {SMALL_BYTES:,} bytes at once: mean and last end, ms; fluid: all at once in the end")
    for engine, pair in pairs.items():
        took_s = at_once(pair, SMALL, SMALL_BYTES)
        fluid_ms = 8e3 * SMALL * SMALL_BYTES / FLUID_BPS
        print(f"{engine}: {1e3 * np.mean(took_s):.0f} and {1e3 * took_s[-1]:.0f}; fluid {fluid_ms:.0f}")


def three(took_s: Sequence[float] | Any) -> str:
    return f"{1e3 * took_s[0]:.0f}, {1e3 * float(np.mean(took_s)):.0f}, {1e3 * took_s[-1]:.0f}"


def cable_bench() -> None:
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        pairs, ends = {}, {}
        for engine in ENGINES:
            folder = Path(place) / engine
            folder.mkdir()
            shape = Shape(RATE_BPS, queue="fair")
            ends[engine] = stack.enter_context(cable(shape, shape))
            pair = stack.enter_context(EnginePair(folder, ends[engine], engine, "--pace-bps", repr(RATE_BPS)))
            began_s = time.monotonic()
            pair.connect()
            took_s, count = time.monotonic() - began_s, connections(ends[engine][0])
            ports = pair.move(1000).sent["source_ports"]
            print(f"{engine}: connected in {took_s:.2f} s, {count} connections, of blobs from ports {ports}")
            pairs[engine] = pair
        alone(pairs)
        together(pairs)
        for engine, end in ends.items():
            print(f"{engine}: {connections(end[0])} connections now")
    with tempfile.TemporaryDirectory() as place:
        unshaped(Path(place))


def unshaped(place: Path) -> None:
    print(f"\n{UNSHAPED_BYTES:,} bytes on an unshaped cable, best of 5, and processor time of both workers")
    for engine in ENGINES:
        folder = place / engine
        folder.mkdir()
        with cable(None) as ends, EnginePair(folder, ends, engine) as pair:
            pair.connect()
            pids = [worker.first["pid"] for worker in (pair.prefill, pair.decode)]
            before_s = sum(map(cpu_s, pids))
            took_s = [pair.move(UNSHAPED_BYTES).took_s for _ in range(5)]
            spent_s = sum(map(cpu_s, pids)) - before_s
            idle_s = sum(map(cpu_s, pids))
            time.sleep(2.0)
            idle = (sum(map(cpu_s, pids)) - idle_s) / 2.0
            print(
                f"{engine}: {8 * UNSHAPED_BYTES / min(took_s) / 1e9:.2f} Gbit/s,"
                f" {spent_s / (5 * UNSHAPED_BYTES / 1e9):.2f} s/GB; idle, {idle:.1%} of a processor;"
                f" {max(map(resident_MB, pids)):.0f} MB resident in the larger worker"
            )


def runs(out: Path) -> Iterator[tuple[str, Path]]:
    """Two runs of one seed with each engine, made where they are not there."""
    for name in RUNS:
        for engine in ENGINES:
            folder = out / f"{engine}-{name}"
            if not folder.exists():
                netkv = [sys.executable, "-m", "experiments.cli", "run", *RUN_OPTIONS]
                subprocess.run([*netkv, "--set", f"serving.engine={engine}", "--out", str(folder)], check=False)
            yield engine, folder


def fabric_bench(out: Path) -> None:
    folders: dict[str, list[Path]] = {engine: [] for engine in ENGINES}
    for engine, folder in runs(out):
        folders[engine].append(folder)
    for engine, mine in folders.items():
        table = replay_table([read_recorded(folder) for folder in mine])
        tables = [read_table(folder, "paths") for folder in mine]
        print(f"\n{engine}: {', '.join(read_manifest(folder)['verdict'] for folder in mine)}")
        error = table["error"].to_numpy(dtype=float)
        print(
            f"  {len(table)} transfers; against the fluid answer to the same decisions and paths: |error| median"
            f" {np.median(np.abs(error)):.1%}, p90 {np.quantile(np.abs(error), 0.9):.0%}; time in all"
            f" {table['taken_s'].sum() / table[REPLAY].sum() - 1:+.1%}"
        )
        print(f"  idle transfers by tier, ms: {read_manifest(mine[0])['evidence']['idle_transfer_ms']}")
        for tier in (2, 3):
            found = [collisions(rows[rows["tier"] == tier]) for rows in tables]
            print(f"  tier {tier}: { ({name: sum(one[name] for one in found) for name in found[0]}) }")
        print(f"  the same path in both runs of the seed: {agreement(*tables)}")
        requests = [read_table(folder, "requests").set_index("request_id") for folder in mine]
        alike = requests[0]["decode_id"] == requests[1]["decode_id"]
        difference = (requests[0]["kv_transfer_ms"] - requests[1]["kv_transfer_ms"])[alike]
        print(
            f"  the same instance in both: {alike.sum()} of {len(alike)}; their transfers differ by"
            f" {difference.std():.1f} ms (standard deviation), their means by {difference.mean():+.1f} ms"
        )
    for tier, paths in ((2, 2), (3, 4)):
        print(
            f"tier {tier}, {STRIPES} stripes on {paths} paths: hashed at random, {bunching(STRIPES, paths):.0%} are"
            " bunched"
        )


def bunching(stripes: int, paths: int) -> float:
    """Probability that some path gets more than an even share of stripes, each hashed at random."""
    even = -(-stripes // paths)
    dealt = list(itertools.product(range(paths), repeat=stripes))
    return sum(max(map(one.count, range(paths))) > even for one in dealt) / len(dealt)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("cable", "fabric"))
    parser.add_argument("--out", type=Path, default=Path("results/engines"))
    arguments = parser.parse_args()
    if arguments.part == "cable":
        cable_bench()
    else:
        fabric_bench(arguments.out)


if __name__ == "__main__":
    main()
