"""Where the time of an analytic run goes, and what an event costs, on 64 to 16,384 GPUs.

    python -m tests.bench.where_time_goes [event-cost.png]      # about two minutes

Each run is made twice: once alone, timed beside a bare event loop, and once sampled every millisecond of CPU time. A
sample belongs to the part of the innermost frame of ours; compiled code counts for whoever called it.
"""

from __future__ import annotations

import signal
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from tests.support.replays import FABRICS, load_on, replay

EVERY_S = 0.001

PARTS: Mapping[str, tuple[str, ...]] = {
    "decision, loads, transfers in flight": ("scheduler",),
    "prefix caches": ("scheduler/prefix_index",),
    "network: rates, paths, flows": (
        "simulator/network", "simulator/transport", "simulator/path_choice", "simulator/waterfill", "topologies",
    ),
    "event loop, prefill": ("simulator/simulated_run", "simulator/event_queue", "serving/prefill_queue"),
    "decode batches": ("simulator/decode_batch",),
    "lifecycle and records": ("serving",),
    "telemetry": ("simulator/observers", "simulator/polled_counters", "scheduler/oracle"),
    "workload, background traffic": ("workloads", "scenario"),
}  # fmt: skip
"""What a module belongs to, by the longest beginning of its place that fits."""

OTHER = "other"
ROOT = Path(__file__).parents[2]


def part_of(frame: FrameType | None) -> str:
    """The part of the innermost frame that is in one of our packages."""
    while frame is not None:
        place = frame.f_code.co_filename
        if place.startswith(str(ROOT)):
            module = place[len(str(ROOT)) + 1 :]
            fitting = [
                (len(start), part) for part, starts in PARTS.items() for start in starts if module.startswith(start)
            ]
            if fitting:
                return max(fitting)[1]
        frame = frame.f_back
    return OTHER


def shares(gpus: int, requests: int) -> Counter[str]:
    """Samples by part."""
    found: Counter[str] = Counter()
    before = signal.signal(signal.SIGPROF, lambda _, frame: found.update([part_of(frame)]))
    signal.setitimer(signal.ITIMER_PROF, EVERY_S, EVERY_S)
    try:
        replay(load_on(gpus, requests))
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    return found


def main(arguments: list[str]) -> int:
    replay(load_on(64, 50))  # compile
    names = [*PARTS, OTHER]
    cost_us: dict[int, float] = {}
    part_us: dict[int, dict[str, float]] = {}
    for gpus in FABRICS:
        requests = max(2 * gpus, 6000)
        made = replay(load_on(gpus, requests))
        print(made.told(f"{gpus} GPUs"), flush=True)
        found = shares(gpus, requests)
        cost_us[gpus] = made.event_s * 1e6
        part_us[gpus] = {name: cost_us[gpus] * found[name] / found.total() for name in names}
    print(f"\n{'us an event':<40}" + "".join(f"{gpus:>9,}" for gpus in FABRICS))
    for name in names:
        print(f"{name:<40}" + "".join(f"{part_us[gpus][name]:9.1f}" for gpus in FABRICS))
    print(f"{'together':<40}" + "".join(f"{cost_us[gpus]:9.1f}" for gpus in FABRICS))
    if arguments:
        draw(part_us, Path(arguments[0]))
    return 0


def draw(part_us: Mapping[int, Mapping[str, float]], place: Path) -> None:
    """A bar a fabric, a colour a part."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.2), layout="constrained")
    labels = [f"{gpus:,}" for gpus in part_us]
    base = [0.0] * len(labels)
    colours = pyplot.get_cmap("tab10")
    for number, name in enumerate([*PARTS, OTHER]):
        heights = [parts[name] for parts in part_us.values()]
        axes.bar(labels, heights, 0.6, bottom=base, label=name, color=colours(number))
        base = [low + height for low, height in zip(base, heights, strict=True)]
    for place_x, height in enumerate(base):
        axes.annotate(f"{height:.0f}", (place_x, height), ha="center", va="bottom")
    axes.axhline(2 * base[0], color="black", linewidth=0.8, linestyle="--")
    axes.annotate("twice that of 64 GPUs", (-0.4, 2 * base[0]), va="bottom", fontsize=9)
    axes.set_ylim(0, 1.2 * max(*base, 2 * base[0]))
    axes.set_xlabel("GPUs, the same load on each")
    axes.set_ylabel("CPU time of an event, us")
    handles, names = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], names[::-1], loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(place, dpi=120)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
