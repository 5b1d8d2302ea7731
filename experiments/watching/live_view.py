"""The live view of a run: what `netkv run --watch` shows, as a screen for a terminal or as lines for a file."""

from __future__ import annotations

from collections.abc import Mapping

from rich.bar import Bar
from rich.console import Group
from rich.table import Table
from rich.text import Text

from experiments.watching.baseline import Baseline
from serving import RunLook
from topologies import Fabric, Level

BLOCKS = "·▁▂▃▄▅▆▇█"
"""A link as one letter, by its utilisation."""

WARM, HOT = 0.5, 0.8
"""From these utilisations on a link is yellow, and red."""

SHOWN = 6
"""Links, and transfers, that have a line of their own."""

LINKS_IN_A_LINE = 64
"""Of more links of a kind, each letter is the fullest of several."""

LEVEL_WORDS = {None: "instance", Level.SERVER: "server", Level.TOR: "ToR", Level.AGGREGATION: "aggregation",
               Level.CORE: "core"}  # fmt: skip
STAGE_WORDS = {
    "queue": "queued",
    "prefill": "in prefill",
    "transfer": "in transfer",
    "admission": "wait for decode",
    "decode": "decode",
}


class LiveView:
    """Takes looks at a run and shows the last of them, and the TTFT of all requests so far."""

    def __init__(self, fabric: Fabric, title: str, requests: int, baseline: Baseline | None = None) -> None:
        self._title = title
        self._requests = requests
        self._baseline = baseline
        self._kinds = kinds_of(fabric)
        self._look: RunLook | None = None
        self._note = "starting"
        self._count = 0
        self._total_ms = 0.0
        self._pairs = 0
        self._ours_ms = self._theirs_ms = 0.0

    def note(self, text: str) -> None:
        """Show this until the first look."""
        self._note = text

    def take(self, look: RunLook) -> None:
        """Show this look from now on."""
        self._look = look
        for request_id, ttft_ms in look.ttft_ms.items():
            self._count += 1
            self._total_ms += ttft_ms
            if self._baseline is not None and request_id in self._baseline.ttft_ms:
                self._pairs += 1
                self._ours_ms += ttft_ms
                self._theirs_ms += self._baseline.ttft_ms[request_id]

    def line(self) -> str:
        """The last look in one line."""
        look = self._look
        if look is None:
            return f"{self._title}: {self._note}"
        stages = " ".join(f"{name} {count}" for name, count in look.stages.items())
        busiest = self._busiest(look)[:1]
        link = "".join(f" | {name} {100 * share:.0f} %" for name, share in busiest)
        failed = f" ({look.failed} failed)" if look.failed else ""
        return (
            f"{look.at_s:6.1f} s | {look.closed}/{self._requests} over{failed} | {stages} | snapshot"
            f" {_age(look.snapshot_age_s)} | TTFT {self._ttft()}{link}"
        )

    def screen(self) -> Group:
        """The last look as a screen of some thirty lines."""
        look = self._look
        if look is None:
            return Group(Text(self._title, style="bold"), Text(self._note))
        return Group(
            Text.assemble((self._title, "bold"), f"   {look.at_s:.1f} s"),
            self._progress(look),
            Text("           " + ", ".join(f"{look.stages[name]} {words}" for name, words in STAGE_WORDS.items())),
            Text.assemble(("snapshot   ", "dim"), f"{_age(look.snapshot_age_s)} old" if look.snapshot_age_s is not None
                          else "none"),
            Text.assemble(("TTFT       ", "dim"), self._ttft()),
            Text(""),
            self._links(look),
            Text(""),
            self._busiest_table(look),
            Text(""),
            self._transfers(look),
        )  # fmt: skip

    def _progress(self, look: RunLook) -> Table:
        grid = Table.grid(padding=(0, 1))
        failed = f", {look.failed} failed" if look.failed else ""
        share = look.closed / self._requests if self._requests else 1.0
        bar = Bar(1.0, 0.0, share, width=24, color="green")
        grid.add_row(Text("requests  ", style="dim"), bar, f"{look.closed} of {self._requests} over{failed}")
        return grid

    def _links(self, look: RunLook) -> Table:
        """A line for each kind of link, a letter a link."""
        grid = Table.grid(padding=(0, 2))
        for name, links in self._kinds.items():
            bars = Text()
            for share in fullest([look.utilisation.get(link, 0.0) for link in links], LINKS_IN_A_LINE):
                bars.append(BLOCKS[round(share * (len(BLOCKS) - 1))], style=f"{_colour(share)} on grey11")
            grid.add_row(Text(name, style="dim"), bars)
        return grid

    def _busiest(self, look: RunLook) -> list[tuple[str, float]]:
        return sorted(look.utilisation.items(), key=lambda one: (-one[1], one[0]))[:SHOWN]

    def _busiest_table(self, look: RunLook) -> Table:
        grid = Table.grid(padding=(0, 1))
        grid.add_row(Text("busiest links", style="dim"))
        for name, share in self._busiest(look):
            grid.add_row(f"  {name}", Bar(1.0, 0.0, share, width=32, color=_colour(share)), f"{100 * share:3.0f} %")
        return grid

    def _transfers(self, look: RunLook) -> Table:
        grid = Table.grid(padding=(0, 2))
        more = len(look.transfers) - SHOWN
        order = ", the oldest first" if len(look.transfers) > 1 else ""
        grid.add_row(Text(f"transfers in flight: {len(look.transfers)}{order}", style="dim"))
        inner = Table.grid(padding=(0, 2))
        for one in look.transfers[:SHOWN]:
            inner.add_row(
                f"  #{one.request_id}", f"h{one.prefill_id} > h{one.decode_id}", f"tier {one.tier}",
                f"{one.kv_bytes / 1e9:5.2f} GB", f"for {1e3 * one.for_s:5.0f} ms",
            )  # fmt: skip
        for _ in range(SHOWN - len(look.transfers)):
            inner.add_row("")  # the screen keeps its height
        grid.add_row(inner)
        grid.add_row(f"  and {more} more" if more > 0 else "")
        return grid

    def _ttft(self) -> str:
        if not self._count:
            return "-"
        if not self._pairs or self._baseline is None:
            return f"{self._total_ms / self._count:.0f} ms"
        ours_ms, theirs_ms = self._ours_ms / self._pairs, self._theirs_ms / self._pairs
        change = 100 * (ours_ms / theirs_ms - 1)
        return f"{ours_ms:.0f} ms, {self._baseline.name} {theirs_ms:.0f} ms: {change:+z.1f} % (requests: {self._pairs})"


def kinds_of(fabric: Fabric) -> Mapping[str, list[str]]:
    """The names of the links by their two ends, from the instances up."""
    level_of: dict[str, Level] = {switch.name: switch.level for switch in fabric.switches}
    kinds: dict[tuple[float, str], list[str]] = {}
    for link in fabric.links:
        source, target = level_of.get(link.source), level_of.get(link.target)
        height = max(-1 if end is None else int(end) for end in (source, target))
        name = f"{LEVEL_WORDS[source]} to {LEVEL_WORDS[target]}"
        kinds.setdefault((height, name), []).append(link.name)
    return {name: kinds[height, name] for height, name in sorted(kinds)}


def fullest(shares: list[float], most: int) -> list[float]:
    """At most so many numbers, each the largest of as many neighbours."""
    size = -(-len(shares) // most) if shares else 1
    return [max(shares[at : at + size]) for at in range(0, len(shares), size)]


def _colour(share: float) -> str:
    return "red" if share >= HOT else "yellow" if share >= WARM else "green"


def _age(age_s: float | None) -> str:
    return "none" if age_s is None else f"{age_s:.2f} s"
