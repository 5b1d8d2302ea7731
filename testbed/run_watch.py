"""Shows an emulated run to whoever watches it: its requests now, and its links as the controller last counted them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from serving import Lifecycle, LifeWatch, Watch
from testbed.run_clock import RunClock


async def show_run(watch: Watch, life: Lifecycle, clock: RunClock, links: Callable[[], Mapping[str, float]]) -> None:
    """Look at the run from t = 0 on until cancelled. links: the utilisation of each by name, empty before the first."""
    life_watch, at_s = LifeWatch(life), 0.0
    while True:
        await clock.until(at_s)
        watch.on_look(life_watch.look(clock.now_s(), links()))
        at_s = clock.now_s() + watch.every_s
