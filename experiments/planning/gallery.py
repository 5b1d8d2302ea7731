"""The gallery of specifications: each of `specs/` under several policies in the fluid model, drawn as one picture.

python -m experiments.planning.gallery docs/img        # all of them, as gallery-NAME.png
python -m experiments.planning.gallery DIR MY.yaml     # one of your own
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.drawing import LEVEL_NAMES, REGIME_STEPS, draw_regime
from experiments.running import RunSpec, open_world, read_spec
from serving import Outcome
from topologies import Level

SPECS = Path(__file__).parents[2] / "specs"

REGIMES = {
    "paper": "The paper's regime: constant congestion, prompts of retrieval",
    "moving-hot-spots": "Moving hot spots: another rack is full every 1.5 s",
    "decode-bound": "Decode-bound: three places in a batch",
    "incast": "Incast: two decode instances at a time are flooded",
    "small-model": "A small model: many short requests, little KV",
    "your-trace": "Your own trace; here a made-up sample",
}
"""The specifications of the gallery by the name of their file, and the titles of their pictures."""

COMPARED = ("round_robin", "cla_star", "netkv_static")
"""Who decides beside the specification's own policy."""

MOST_REQUESTS = 600
"""Of a picture: more make no other one and take longer."""

SPAN_S, COLUMNS = 30.0, 120
"""How much of a run the picture of the links shows, seconds, and of how many columns."""

CHANGES = {"world": "analytic", "simulation.link_sample_s": SPAN_S / COLUMNS}

LEVELS = ((Level.CORE, Level.AGGREGATION), (Level.AGGREGATION, Level.TOR), (Level.TOR, Level.SERVER))
"""Of both ends of the links that the picture shows, from the top down."""


class Regime(NamedTuple):
    """What a regime looks like: mean duration of each step, ms, by policy; links by time; names and sizes of groups."""

    spec: RunSpec
    steps_ms: Mapping[str, Mapping[str, float]]
    utilisation: NDArray[np.float64]
    span_s: float
    groups: Sequence[tuple[str, int]]
    requests: int


def policies_of(spec: RunSpec) -> list[str]:
    """Who is compared: `COMPARED` and the specification's own policy."""
    return list(dict.fromkeys((*COMPARED, spec.policy)))


def look_at(path: Path, requests: int = MOST_REQUESTS) -> Regime:
    """Run a specification under every policy of the comparison, the first `requests` of it at most."""
    spec = read_spec(path, CHANGES)
    changes = CHANGES | {"workload.requests": min(requests, spec.workload.requests)}
    outcomes = {}
    for policy in policies_of(spec):
        one = read_spec(path, changes | {"policy": policy})
        with open_world(one) as world:
            outcomes[policy] = world.run(one.scenario)
    last = outcomes[spec.policy]
    utilisation, span_s, groups = links_over_time(spec, last)
    steps_ms = {name: mean_steps_ms(one) for name, one in outcomes.items()}
    return Regime(spec, steps_ms, utilisation, span_s, groups, len(last.requests))


def mean_steps_ms(outcome: Outcome) -> dict[str, float]:
    """The mean of every step over the completed requests, ms; what no step accounts for is the `rest`."""
    done = [one for one in outcome.requests if one.status == "completed"]
    found = {step: float(np.mean([getattr(one, step) for one in done])) for step in REGIME_STEPS if step != "rest_ms"}
    return found | {"rest_ms": float(np.mean([one.ttft_ms for one in done])) - sum(found.values())}


def links_over_time(spec: RunSpec, outcome: Outcome) -> tuple[NDArray[np.float64], float, list[tuple[str, int]]]:
    """Utilisation of the links towards the instances, [links, times], the seconds that it covers, and its groups."""
    fabric, _ = spec.build()
    level_of = {switch.name: switch.level for switch in fabric.switches}
    names, groups = [], []
    for upper, lower in LEVELS:
        found = [
            link.name
            for link in fabric.links
            if (level_of.get(link.source), level_of.get(link.target)) == (upper, lower)
        ]
        names += found
        groups.append((f"{LEVEL_NAMES[upper]} to\n{LEVEL_NAMES[lower]}", len(found)))
    table = pd.DataFrame(outcome.links)
    table = table[table["time_s"] <= SPAN_S]
    seen = table.pivot_table(index="link", columns="time_s", values="utilisation").reindex(names).fillna(0.0)
    return seen.to_numpy(), float(table["time_s"].max()), groups


def draw(path: Path, out: Path) -> Path:
    """The picture of a specification, `gallery-NAME.png` in `out`."""
    regime = look_at(path)
    note = (
        f"{regime.requests} requests of {path.name} in the fluid model, seed {regime.spec.seed}. Right: under"
        f" {regime.spec.policy}, the first {regime.span_s:.0f} s."
    )
    png, svg = draw_regime(
        out / f"gallery-{path.stem}",
        title=REGIMES.get(path.stem, path.stem),
        note=note,
        steps_ms=regime.steps_ms,
        utilisation=regime.utilisation,
        span_s=regime.span_s,
        groups=regime.groups,
    )
    svg.unlink()
    return png


def main(arguments: Sequence[str]) -> int:
    """Draw the specifications that are named, else the gallery, into the folder of the first argument."""
    out, *named = map(Path, arguments or ["."])
    for path in named or [SPECS / f"{name}.yaml" for name in REGIMES]:
        print(draw(path, out))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
