"""Generated bad input for everything that reads what others have written: no traceback, no hang, bounded memory.

    python -m tests.bench.fuzz [--cases 100000] [--seed 0] [--target NAME ...] [--at NUMBER] [--most-mib 1024]

Each case is one number: target and seed make the same bytes again, and `--at` reads that case alone, in this process.
Cases are read in child processes, some hundred in each, so that a crash or a hang costs one case. Prints a line a
target, and one a fault with its seed; exit code 1 when there was one.
"""

from __future__ import annotations

import argparse
import mmap
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from tests.support.fuzzing.target import CASE_DEADLINE_S, FaultError, Target
from tests.support.fuzzing.targets import TARGETS

CASES_OF_A_CHILD = 500
ADDRESS_SPACE_BYTES = 8 << 30
"""Of a child beyond its start, of which allocators reserve some: a case that asks for more is out of memory."""
SHOWN_A_TARGET = 20
SHARES = {"trace": 37, "spec": 8, "setting": 8, "wire": 18, "commands": 14, "oracle": 10, "document": 4, "folder": 1}
"""Of a hundred cases."""


def read_cases(target: Target, seeds: range, most_bytes: int) -> tuple[int, list[tuple[int, str]]]:
    """How many of these cases were refused, and the faults by seed."""
    refused, faults, first = 0, [], seeds.start
    with tempfile.TemporaryDirectory(prefix="netkv-fuzz-") as folder, mmap.mmap(-1, 16) as shared:
        while first < seeds.stop:
            shared[:16] = first.to_bytes(8, "little") + bytes(8)
            reader, writer = os.pipe()
            child = os.fork()
            if child == 0:
                try:
                    _child(target, range(first, seeds.stop), Path(folder), shared, writer)
                finally:
                    os._exit(1)
            os.close(writer)
            status, peak_bytes = _wait(child, shared)
            with os.fdopen(reader, "rb") as said:
                for line in said.read().decode("utf-8", "replace").splitlines():
                    seed, _, fault = line.partition(" ")
                    faults.append((int(seed), fault))
            refused += int.from_bytes(shared[8:], "little")
            at = int.from_bytes(shared[:8], "little")
            if status:
                what = signal.Signals(status & 127).name if status & 127 else f"exit code {status >> 8}"
                faults.append((at, f"ends the process: {what}"))
            elif peak_bytes > most_bytes:
                faults.append((at, f"takes {peak_bytes >> 20} MiB, this case or one before it"))
            first = at + 1
    return refused, faults


def _child(target: Target, seeds: range, folder: Path, shared: mmap.mmap, writer: int) -> None:
    """Read cases and report faults; ends the process."""
    place = folder / str(os.getpid())
    place.mkdir()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
    resource.setrlimit(resource.RLIMIT_AS, (used + ADDRESS_SPACE_BYTES, used + ADDRESS_SPACE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    refused = 0
    for seed in seeds:
        shared[:16] = seed.to_bytes(8, "little") + refused.to_bytes(8, "little")
        try:
            refused += target.check(place, target.case(seed))
        except (FaultError, MemoryError) as fault:
            said = " ".join(str(fault).split())[:300] or "out of memory"
            os.write(writer, f"{seed} {said}\n".encode("utf-8", "replace"))
    shared[8:] = refused.to_bytes(8, "little")
    os._exit(0)


def _wait(child: int, shared: mmap.mmap) -> tuple[int, int]:
    """The status with which a child ends and its largest size in bytes; killed when it stays at one case."""
    seen, since_s = b"", time.monotonic()
    while True:
        ended, status, usage = os.wait4(child, os.WNOHANG)
        if ended:
            return status, usage.ru_maxrss << 10
        if shared[:8] != seen:
            seen, since_s = shared[:8], time.monotonic()
        elif time.monotonic() - since_s > 3 * CASE_DEADLINE_S:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.01)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100_000, help="of all targets together (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="number of the first case (default: 0)")
    parser.add_argument("--target", action="append", choices=sorted(TARGETS), help="only these (default: all)")
    parser.add_argument("--at", type=int, help="read one case of one target and show where it fails")
    parser.add_argument("--most-mib", type=int, default=1024, help="a reader may grow to (default: %(default)s)")
    options = parser.parse_args()
    names = options.target or list(SHARES)
    if options.at is not None:
        return read_one(TARGETS[names[0]], options.at)
    whole, found, began_s = sum(SHARES[name] for name in names), 0, time.monotonic()
    for name in names:
        started_s, cases = time.monotonic(), options.cases * SHARES[name] // whole
        refused, faults = 0, []
        for first in range(options.seed, options.seed + cases, CASES_OF_A_CHILD):
            seeds = range(first, min(first + CASES_OF_A_CHILD, options.seed + cases))
            more, wrong = read_cases(TARGETS[name], seeds, options.most_mib << 20)
            refused += more
            faults += wrong
        took_s = time.monotonic() - started_s
        print(
            f"{name:<9} {cases:>7,} cases, {refused:>7,} refused, {len(faults):>5,} faults, {took_s:6.1f} s", flush=True
        )
        kinds = Counter(fault[:60] for _, fault in faults)
        shown: Counter[str] = Counter()
        for seed, fault in faults:
            shown[fault[:60]] += 1
            if shown[fault[:60]] == 1 and len(shown) <= SHOWN_A_TARGET:
                print(f"  --target {name} --at {seed}: {fault} ({kinds[fault[:60]]} such)", flush=True)
        found += len(faults)
    peak_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{found:,} faults; {(time.monotonic() - began_s) / 60:.1f} min; largest process {peak_mib:.0f} MiB")
    return 1 if found else 0


def read_one(target: Target, seed: int) -> int:
    case = target.case(seed)
    print(f"{len(case)} bytes: {case[:2000]!r}")
    with tempfile.TemporaryDirectory(prefix="netkv-fuzz-") as folder:
        try:
            refused = target.check(Path(folder), case)
        except FaultError:
            traceback.print_exc()
            return 1
    print("refused" if refused else "taken")
    return 0


if __name__ == "__main__":
    sys.exit(main())
