"""Many plans one after another, within a budget, and on from where the last one ended; every failure with its seed."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.support.chaos.plans import EVENTS, Plan, plan_of
from tests.support.chaos.shrinking import shrink
from tests.support.chaos.trial import Trial

Try = Callable[[Plan], Trial]
Say = Callable[[str], None]


@dataclass
class Journal:
    """The trials that were made by this code, by seed, a line each in a file; others in it are left alone.

    A line that was cut short by whatever ended its writer does not count.
    """

    place: Path
    code: str
    done: dict[int, Trial] = field(default_factory=dict)

    @classmethod
    def read(cls, place: Path, code: str) -> Journal:
        """What is there already; nothing where there is no file."""
        found = cls(place, code)
        for line in place.read_text(encoding="utf-8").splitlines() if place.is_file() else ():
            try:
                row = json.loads(line)
                if row["code"] == code:
                    found.done[row["seed"]] = Trial(row["faults"], row["verdict"], tuple(row["wrong"]))
            except (ValueError, TypeError, LookupError):
                continue
        return found

    def add(self, seed: int, trial: Trial) -> None:
        self.done[seed] = trial
        self.place.parent.mkdir(parents=True, exist_ok=True)
        cut = self.place.is_file() and not self.place.read_bytes().endswith(b"\n") and self.place.stat().st_size
        with self.place.open("a", encoding="utf-8") as file:
            file.write(("\n" if cut else "") + json.dumps({"seed": seed, "code": self.code, **asdict(trial)}) + "\n")


def campaign(
    seeds: Sequence[int], world: str, journal: Journal, attempt: Try, in_time: Callable[[], bool], say: Say
) -> list[int]:
    """Try the plans of these seeds that are not in the journal while there is time; returns the seeds that were wrong.

    Those that were wrong before are told again. Every failure says what is wrong, its seed, and its smallest plan.
    """
    for seed in seeds:
        if seed in journal.done or not in_time():
            continue
        plan = plan_of(seed, world)
        trial = attempt(plan)
        journal.add(seed, trial)
        if trial.wrong:
            say(told(seed, world, trial))
            say(smallest(plan, trial, attempt))
    return [seed for seed in seeds if seed in journal.done and journal.done[seed].wrong]


def told(seed: int, world: str, trial: Trial) -> str:
    """A failure, and the command that repeats it."""
    again = f"python -m tests.bench.chaos --world {world} --at {seed}"
    return "\n".join((f"seed {seed}: {trial.wrong[0]}", *(f"  {line}" for line in trial.wrong[1:]), f"  {again}"))


def smallest(plan: Plan, trial: Trial, attempt: Try) -> str:
    """The smallest plan that is wrong in the same way, as a command."""
    best, tried = shrink(plan, lambda smaller: attempt(smaller).sort == trial.sort)
    return f"  smallest of {tried} plans, {len(best[EVENTS])} faults:\n  {command(best)}"


def command(plan: Plan) -> str:
    """`netkv run` of a plan, and the check of its history."""
    named = {name: value for name, value in plan.items() if name not in ("world", "policy", "seed")}
    words = ["netkv", "run", "--world", plan["world"], "--policy", plan["policy"], "--seed", str(plan["seed"])]
    for name, value in named.items():
        words += ["--set", f"{name}={json.dumps(value) if not isinstance(value, str) else value}"]
    return f"{shlex.join([*words, '--out', 'DIR'])} && netkv check DIR"


def summary(seeds: Sequence[int], journal: Journal) -> str:
    """What has come of these seeds so far: runs, faults, what was wrong, verdicts, and how many are left."""
    done: Mapping[int, Trial] = {seed: journal.done[seed] for seed in seeds if seed in journal.done}
    wrong = [seed for seed, trial in done.items() if trial.wrong]
    verdicts = Counter(trial.verdict or "none" for trial in done.values())
    left = f", {len(seeds) - len(done)} left" if len(done) < len(seeds) else ""
    found: list[Any] = [f"{len(done):,} runs with {sum(trial.faults for trial in done.values()):,} faults"]
    found += [f"{len(wrong)} wrong{': seeds ' + ', '.join(map(str, wrong)) if wrong else ''}"]
    found += [f"verdicts: {', '.join(f'{count} {name}' for name, count in sorted(verdicts.items()))}"] if done else []
    return "; ".join(found) + left
