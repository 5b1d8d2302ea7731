"""Watching one run: how often it is looked at, and where what is seen goes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

from rich.console import Console
from rich.live import Live

from experiments.running import RunSpec
from experiments.watching.baseline import Baseline
from experiments.watching.live_view import LiveView
from serving import RunLook, Watch
from workloads import Request

WALL_S, WALL_LINE_S = 0.5, 2.0
"""Between two looks at an emulated run, wall seconds: on a screen, and as lines."""

LOOKS, LINES = 200, 20
"""Looks at an analytic run while its requests arrive: on a screen, and as lines."""

FRAME_S = 0.08
"""An analytic run waits for so long after each look on a screen: it would be over before anybody has seen it."""

LATE = 10
"""After the last arrival one in so many looks is shown: little happens, and answers may be long."""

LEAST_S = 1e-3
"""Between two looks, where all requests arrive at once."""


class Watched(NamedTuple):
    """A run that is watched; `watch` is for its world."""

    watch: Watch
    view: LiveView
    live: Live | None

    def say(self, text: str) -> None:
        """Show what happens before t = 0; only a screen has a place for it."""
        self.view.note(text)
        if self.live is not None:
            self.live.update(self.view.screen(), refresh=True)


@contextmanager
def watched_run(
    spec: RunSpec, requests: Sequence[Request], baseline: Baseline | None, console: Console
) -> Iterator[Watched]:
    """A live view of a run of `spec` while the context lasts: a screen on a terminal, else lines."""
    title = f"{spec.policy} in the {spec.world} world"
    view = LiveView(spec.build()[0], title, len(requests), baseline)
    terminal = console.is_terminal
    span_s = requests[-1].timestamp_s if requests else 0.0
    if spec.world == "emulated":
        every_s = (WALL_S if terminal else WALL_LINE_S) / spec.emulation.time_dilation
    else:
        every_s = span_s / (LOOKS if terminal else LINES)
    live = Live(view.screen(), console=console, auto_refresh=False) if terminal else None

    def show() -> None:
        if live is None:
            console.print(view.line(), markup=False, highlight=False, soft_wrap=True)
        else:
            live.update(view.screen(), refresh=True)

    late = 0

    def on_look(look: RunLook) -> None:
        nonlocal late
        view.take(look)
        late += spec.world == "analytic" and look.at_s > span_s
        if late % LATE:
            return
        show()
        if live is not None and spec.world == "analytic":
            time.sleep(FRAME_S)

    with live or nullcontext():
        yield Watched(Watch(max(every_s, LEAST_S), on_look), view, live)
        show()
