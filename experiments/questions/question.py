"""What a question is: the things it varies, how much of it a profile asks, and the runs that this makes.

A question owns no code of its own beyond words and a picture; running is `experiments.running`'s, the arithmetic is
`experiments.analysis`'. A new one is a file like `prefix.py` and a line in `QUESTIONS`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from experiments.analysis import NEVER, Further, tidy
from experiments.drawing import Chart
from experiments.running import CONTROL, Condition, RunSpec, SpecError, control_of, make_spec
from scheduler import is_router_url, reads_telemetry
from topologies import did_you_mean
from workloads import PROFILES as WORKLOADS

Changes = Mapping[str, Any]
"""Dotted names of a specification's fields, and their values."""

SHORT: Changes = {
    "workload.max_output_tokens": 64,
    "congestion.mean_on_s": 2.5,
    "congestion.mean_off_s": 2.5,
}
"""Runs of some 20 s: answers cut short, and congestion that moves often enough for a run to see several states."""

ALL_WORKLOADS = ("conversation", "chatbot", "rag", "long_context")

TUNED_CLA_STAR: Mapping[str, Mapping[str, float]] = {
    "conversation": {"prefix": 4.0, "queue": 0.5, "memory": 0.5},
    "chatbot": {"prefix": 0.5, "queue": 0.0, "memory": 2.0},
    "rag": {"prefix": 1.0, "queue": 0.0, "memory": 0.5},
    "long_context": {"prefix": 4.0, "queue": 0.0, "memory": 0.5},
}
"""Weights of CLA* by workload: `netkv tune --requests 2000 --seeds 3 --set workload.profile=NAME`, on requests and
seeds that no sweep uses. Rankings in docs/tune."""


@dataclass(frozen=True)
class Axis:
    """One thing that a question varies.

    `label`: its column; `tag`: how its value is written in a run's name, "" for not at all; `read`: the value of a
    specification. `field`: what it sets, and what a user may give instead of the profile's values. Where it
    sets more, `settings` makes the changes from the value and all other changes, and a user may not give its `own`.
    """

    label: str
    tag: str
    read: Callable[[RunSpec], Any]
    field: str = ""
    settings: Callable[[Any, Changes], Changes] | None = None
    own: tuple[str, ...] = ()

    def changes(self, value: Any, others: Changes) -> Changes:
        return self.settings(value, others) if self.settings else {self.field: value}

    def values(self, of_profile: Sequence[Any], given: Changes) -> Sequence[Any]:
        """The profile's, or the one that a user gives instead. SpecError where none may be given."""
        for name in self.own:
            if name in given:
                raise SpecError(f"{name}: the sweep varies it")
        return (given[self.field],) if self.field in given else of_profile


@dataclass(frozen=True)
class EmulatedCut:
    """The part of a profile that the emulated world runs, which takes real time. What is None is not cut."""

    axes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    seeds: Sequence[int] | None = None
    workloads: Sequence[str] | None = None
    policies: Sequence[str] | None = None
    """Of the question's own; whoever names policies gets those."""


@dataclass(frozen=True)
class Beside:
    """Further runs of a profile in another set-up, of fewer policies: to be read beside its own.

    `tag`: how that is written in a run's name; `axes`: the values there; `changes`: what else differs; `policies`:
    those of the sweep's that run there; `refresh_s`, `seeds`: as of a profile.
    """

    tag: str
    axes: Mapping[str, Sequence[Any]]
    changes: Changes
    policies: Sequence[str]
    refresh_s: Sequence[float | str]
    seeds: Sequence[int]


@dataclass(frozen=True)
class SweepProfile:
    """How much of a question a sweep covers: values of its axes, seeds, workloads, changes to the default.

    `control`: the first emulated run is made a second time, unless a user asks for one seed alone, so that a sweep
    knows what two runs of one specification differ by (`experiments.questions.noise_sentence`).
    `workloads`: profiles of the generator, each for `span_s` at its own rate (0: as many requests as the changes say);
    empty for the specification's own. `refresh_s`: intervals for policies that read telemetry; empty for the
    specification's own. `beside`: not run where a user sets what it varies.
    """

    seeds: Sequence[int]
    changes: Changes
    axes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    workloads: Sequence[str] = ()
    span_s: float = 0.0
    refresh_s: Sequence[float | str] = ()
    emulated: EmulatedCut = EmulatedCut()
    control: bool = False
    beside: Beside | None = None

    def load(self, workload: str | None) -> Changes:
        """What makes a run one of that workload, None for the specification's own. SpecError for an unknown one."""
        if workload is None:
            return {}
        if workload not in WORKLOADS:
            meant = did_you_mean(workload, WORKLOADS)
            raise SpecError(f"workload.profile: {workload!r} is not one of {', '.join(WORKLOADS)}{meant}")
        count = math.ceil(self.span_s * WORKLOADS[workload].rate_rps)
        return {"workload.profile": workload, **({"workload.requests": count} if count else {})}


def _no_charts(requests: pd.DataFrame) -> list[Chart]:
    """Of a question all of whose charts are drawn from its results."""
    return []


def _draw(charts: Iterable[Chart], out: Path, note: str) -> list[Path]:
    from experiments.drawing import draw_chart  # loads Matplotlib

    return [written for chart in charts for written in draw_chart(chart, note, out)]


@dataclass(frozen=True)
class Question:
    """A question: what is varied, who is compared with whom, and what is made of the answers.

    `asks`: one line for the help. `policies`: those that are run unless others are named. `references`: changes are
    against each of them; the first is that of `ttft_change_percent`. `further`: figures of a row that only this
    question has, from the requests beside it; `across`: the same from those with every value of the axes. `table`,
    `sentences`, `charts`: the results as a person reads them; `request_charts`: charts that need every request.
    """

    name: str
    title: str
    asks: str
    axes: tuple[Axis, ...]
    policies: tuple[str, ...]
    references: tuple[str, ...]
    profiles: Mapping[str, SweepProfile]
    table: Callable[[pd.DataFrame], Table]
    sentences: Callable[[pd.DataFrame], list[str]]
    charts: Callable[[pd.DataFrame], list[Chart]]
    further: Further | None = None
    across: Further | None = None
    request_charts: Callable[[pd.DataFrame], list[Chart]] = _no_charts

    def results(self, requests: pd.DataFrame) -> pd.DataFrame:
        """The tidy frame of `experiments.running.sweep.read_sweep`'s: see `experiments.analysis.results.tidy`.

        Of a sweep that was made before the question had one of its axes, that column is empty.
        """
        requests = requests.assign(**{axis.label: "" for axis in self.axes if axis.label not in requests})
        return tidy(requests, [axis.label for axis in self.axes], self.references, self.further, self.across)

    def draw(self, results: pd.DataFrame, out: Path, note: str) -> list[Path]:
        """Write the charts of the results into the folder `out`, with a note on the runs. Returns the files."""
        return _draw(self.charts(results), out, note)

    def draw_requests(self, requests: pd.DataFrame, out: Path, note: str) -> list[Path]:
        """The same for the charts that need every request."""
        return _draw(self.request_charts(requests), out, note)

    def conditions(
        self, profile: str, policies: Sequence[str], worlds: Sequence[str], changes: Changes
    ) -> list[Condition]:
        """The runs, in an order that brings up each fabric once.

        A seed, a workload, a refresh interval or a value of an axis of one field among the `changes` replaces the
        profile's. SpecError for what cannot be run.
        """
        if profile not in self.profiles:
            meant = did_you_mean(profile, self.profiles)
            raise SpecError(f"profile: {profile!r} is not one of {', '.join(self.profiles)}{meant}")
        if not policies:
            raise SpecError("policies: none was named")
        for name, option in (("policy", "--policies"), ("world", "--world")):
            if name in changes:
                raise SpecError(f"{name}: a sweep sets it for each of its runs (use {option})")
        chosen = self.profiles[profile]
        found: list[Condition] = []
        for world in worlds:
            runs = list(self._in_world(chosen, dict.fromkeys(policies), world, changes))
            if chosen.beside and not any(axis.field in changes for axis in self.axes):
                runs += self._beside(chosen, chosen.beside, policies, world, changes)
            controlled = chosen.control and world == "emulated" and "seed" not in changes
            found += [*runs, control_of(runs[0])] if controlled else runs
        return found

    def _in_world(
        self, chosen: SweepProfile, policies: Mapping[str, None], world: str, given: Changes
    ) -> Iterator[Condition]:
        cut = chosen.emulated if world == "emulated" else EmulatedCut()
        axes = [axis.values({**chosen.axes, **cut.axes}[axis.label], given) for axis in self.axes]
        if cut.policies and set(policies) == set(self.policies):
            policies = dict.fromkeys(cut.policies)
        seeds = (given["seed"],) if "seed" in given else cut.seeds or chosen.seeds
        workloads: Sequence[str | None] = cut.workloads or chosen.workloads or (None,)
        if "workload.trace" in given:
            workloads = (None,)
        elif "workload.profile" in given:
            workloads = (str(given["workload.profile"]),)
        for values, workload, seed, policy in product(product(*axes), workloads, seeds, policies):
            others = {
                **chosen.changes,
                **chosen.load(workload),
                **given,
                "world": world,
                "policy": policy,
                "seed": seed,
            }
            for axis, value in zip(self.axes, values, strict=True):
                others |= axis.changes(value, others)
            intervals: Sequence[Any] = chosen.refresh_s and self._intervals(chosen, policy, given)
            for refresh in intervals or (None,):
                aged = {} if refresh is None else {"oracle.refresh_s": refresh}
                spec = _with_tuned_weights(others | aged)
                yield self._condition(spec, several_workloads=len(workloads) > 1, swept=bool(chosen.refresh_s))

    def _beside(
        self, chosen: SweepProfile, beside: Beside, policies: Sequence[str], world: str, given: Changes
    ) -> Iterator[Condition]:
        there = replace(
            chosen,
            changes={**chosen.changes, **beside.changes},
            axes=beside.axes,
            refresh_s=beside.refresh_s,
            seeds=beside.seeds,
        )
        asked = dict.fromkeys(name for name in policies if name in beside.policies)
        for condition in self._in_world(there, asked, world, given):
            yield replace(condition, name=condition.name.replace(world, f"{world}-{beside.tag}", 1))

    def _intervals(self, chosen: SweepProfile, policy: str, given: Changes) -> Sequence[Any]:
        if "oracle.refresh_s" in given:
            return (given["oracle.refresh_s"],)
        return chosen.refresh_s if reads_telemetry(policy) else chosen.refresh_s[:1]

    def _condition(self, spec: RunSpec, *, several_workloads: bool, swept: bool) -> Condition:
        refresh = written(spec.oracle.refresh_s) if reads_telemetry(spec.policy) else None
        parts: list[str] = [spec.world]
        parts += [spec.workload.profile] if several_workloads else []
        parts += [axis.tag.format(axis.read(spec)) for axis in self.axes if axis.tag]
        parts += [in_a_folders_name(spec.policy)]
        if swept and refresh is not None:
            parts += [f"refresh{refresh}" if refresh == NEVER else f"refresh{refresh:g}s"]
        labels = {"world": spec.world, "workload": workload_name(spec), "seed": spec.seed, "refresh_s": refresh}
        labels |= {axis.label: axis.read(spec) for axis in self.axes}
        return Condition("-".join((*parts, f"seed{spec.seed}")), spec, labels)


def _with_tuned_weights(changes: Changes) -> RunSpec:
    """The specification; CLA* runs with the weights found for its workload, unless it was given others."""
    spec = make_spec({}, changes)
    if spec.policy != "cla_star" or spec.workload.trace is not None or "cla_star" in spec.policy_parameters:
        return spec
    weights = TUNED_CLA_STAR[spec.workload.profile]
    return make_spec(
        {}, {**changes, **{f"policy_parameters.cla_star.{name}": value for name, value in weights.items()}}
    )


def in_a_folders_name(policy: str) -> str:
    """A policy's name where a path must not be: `my_module.Mine`, `http-127.0.0.1-8000-select`."""
    return re.sub(r"[^\w.-]+", "-", policy) if is_router_url(policy) else policy.replace(":", ".")


def workload_name(spec: RunSpec) -> str:
    """What a run's requests are called in a table."""
    return spec.workload.profile if spec.workload.trace is None else spec.workload.trace.name


def written(refresh_s: float) -> float | str:
    """A refresh interval as files have it: JSON knows no infinite number."""
    return NEVER if math.isinf(refresh_s) else refresh_s


def note_on(conditions: Sequence[Condition], left_out: Sequence[str]) -> str:
    """What a figure's foot says of its runs."""
    counted = [condition for condition in conditions if CONTROL not in condition.labels]
    specs = [condition.spec for condition in counted]
    sizes = sorted({spec.fabric.gpus for spec in specs})
    gpus = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    workloads = list(dict.fromkeys(map(workload_name, specs)))
    kinds = list(dict.fromkeys(spec.congestion.kind for spec in specs))
    seeds = len({spec.seed for spec in specs})
    without = f" without {len(left_out)} invalid ones" if left_out else ""
    return (
        f"{len(counted)} runs{without}, {seeds} seed{'s' if seeds > 1 else ''}; {gpus} GPUs, {specs[0].model.name};"
        f" workload {', '.join(workloads)}; congestion {', '.join(kinds)}."
    )
