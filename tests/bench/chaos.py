"""Runs in which links, switches, telemetry and workers fail at random: the history of each must hold (`netkv check`).

    python -m tests.bench.chaos [--runs 200] [--minutes M] [--world analytic] [--seed 0] [--at SEED] [--fresh]

A seed is a small run of some policy, settings and faults; `--at` repeats one. What was run by the same code is not run
again: a call goes on where the last one ended, for `--minutes` at most. Prints what is wrong with its seed and with the
smallest plan that is wrong alike; exit code 1 when something was. The emulated world needs root, and half a minute a
run.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from experiments.running.code_identity import code_identity
from tests.support.chaos.campaign import Journal, campaign, smallest, summary, told
from tests.support.chaos.plans import plan_of
from tests.support.chaos.trial import chaos_runner, try_plan


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200, help="seeds from the first on (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no run begins later (default: no end)")
    parser.add_argument("--world", choices=("analytic", "emulated"), default="analytic")
    parser.add_argument("--seed", type=int, default=0, help="the first seed (default: %(default)s)")
    parser.add_argument("--at", type=int, help="run one seed, show its plan and the smallest one that is wrong alike")
    parser.add_argument("--journal", type=Path, help="what was run (default: results/chaos-WORLD.jsonl)")
    parser.add_argument("--fresh", action="store_true", help="begin again")
    options = parser.parse_args()
    if options.at is not None:
        return repeat(options.at, options.world)
    place = options.journal or Path("results") / f"chaos-{options.world}.jsonl"
    if options.fresh:
        place.unlink(missing_ok=True)
    journal = Journal.read(place, _code())
    seeds, began_s = range(options.seed, options.seed + options.runs), time.monotonic()
    before = sum(seed in journal.done for seed in seeds)
    if before:
        print(f"{before} of {len(seeds)} runs are there already ({place})", flush=True)
    with chaos_runner() as runner:
        wrong = campaign(
            seeds,
            options.world,
            journal,
            lambda plan: try_plan(plan, runner),
            lambda: time.monotonic() - began_s < 60 * options.minutes,
            lambda text: print(text, flush=True),
        )
    print(f"{summary(seeds, journal)}; {(time.monotonic() - began_s) / 60:.1f} min")
    return 1 if wrong else 0


def _code() -> str:
    """Which code makes and checks the runs: another one makes them again."""
    return code_identity()["source"]


def repeat(seed: int, world: str) -> int:
    plan = plan_of(seed, world)
    print(json.dumps(plan, indent=1))
    with chaos_runner() as runner:
        trial = try_plan(plan, runner)
        if not trial.wrong:
            print(f"seed {seed}: {trial.faults} faults, every invariant holds ({trial.verdict})")
            return 0
        print(told(seed, world, trial))
        print(smallest(plan, trial, lambda smaller: try_plan(smaller, runner)))
    return 1


if __name__ == "__main__":
    sys.exit(main())
