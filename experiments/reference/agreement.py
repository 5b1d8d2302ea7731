"""Whether a sweep agrees with reference results, row by row: in the analytic world to rounding, emulated by intervals.

Two runs of one specification in the analytic world are equal, so any difference is one of code or arithmetic. Emulated
runs of one specification differ, so the same requests are paired and the whole 95 % interval of the difference has to
lie within a margin to agree, or beyond it to differ (two one-sided tests of equivalence: Schuirmann, Journal of
Pharmacokinetics and Biopharmaceutics 15 (1987), 657-680); else it is not decided.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.analysis import Estimate, Interval, bootstrap, counted, margins, relative_change, units_of
from experiments.reference.data_set import DataSet, check_question
from experiments.running import RunSpec, SpecError, read_description

ROUNDING_MS, ROUNDING_SHARE = 1e-3, 1e-6
"""Analytic times are equal within a microsecond, in which a reference holds them, and one part in a million, because
processors add in different orders."""

KEYS = ["seed", "request_id"]

Verdict = Literal["equal", "agrees", "undecided", "differs"]


@dataclass(frozen=True)
class RowAgreement:
    """A row of a sweep's table beside that of the reference.

    `row`: world, workload, what is varied, policy and refresh interval. `requests`: how many were compared, `unequal`
    how many of them are not equal to rounding, `largest_ms` the largest difference of their TTFT. `change`: of the mean
    TTFT against the reference, percent; `effect`: of the change against the question's reference policy, points; NaN
    for that policy itself.
    """

    row: Mapping[str, Any]
    runs: int
    requests: int
    unequal: int
    largest_ms: float
    change: Interval
    effect: Interval
    verdict: Verdict

    @property
    def name(self) -> str:
        """`incast, netkv_full` or `netkv_full at 5 s`."""
        axes = [f"{value}" for label, value in self.row.items() if label not in ("world", "policy", "refresh_s")]
        refresh_s = self.row["refresh_s"]
        aged = "" if refresh_s is None or refresh_s != refresh_s else f" at {refresh_s:g} s"
        return ", ".join((*axes, f"{self.row['policy']}{aged}"))


@dataclass(frozen=True)
class Agreement:
    """A sweep beside a reference. `beyond`: runs of the sweep that the reference does not have."""

    place: Path
    code: Mapping[str, str]
    own_code: Mapping[str, str]
    rows: tuple[RowAgreement, ...]
    beyond: int

    @property
    def holds(self) -> bool:
        """Whether every row agrees; one that is not decided does not."""
        return all(row.verdict in ("equal", "agrees") for row in self.rows)

    def as_json(self) -> dict[str, Any]:
        rows = [{**asdict(one), "name": one.name, "row": dict(one.row)} for one in self.rows]
        return {
            "reference": str(self.place), "holds": self.holds, "rows": rows, "beyond": self.beyond,
            "reference_code": dict(self.code), "code": dict(self.own_code),
        }  # fmt: skip


def shared_runs(reference: DataSet, question: str, asked: Mapping[str, RunSpec]) -> list[str]:
    """Which of these runs of a question, specifications by name, the reference has. SpecError when it has none."""
    check_question(reference, question)
    known = reference.specs(question)
    found = [
        name
        for name, spec in asked.items()
        if name in known and _same_question(RunSpec.model_validate(known[name]), spec)
    ]
    if not found:
        raise SpecError(
            f"{reference.place}: has none of these runs: its {question} are of another `netkv sweep {question}`"
            " (leave --set, --seed, --requests and --profile out, or name another reference)"
        )
    return found


def compare_sweep(reference: DataSet, sweep: Path, seen: pd.DataFrame, axes: Sequence[str], baseline: str) -> Agreement:
    """Hold a sweep's requests (`read_sweep`) against the reference's runs of the same specifications.

    `axes`: the columns of what is varied; `baseline`: the policy that changes are against. SpecError when the reference
    has none of these runs.
    """
    described = read_description(sweep)
    question = str(described["question"])
    own = described["specs"]
    present = {name: RunSpec.model_validate(own[name]) for name in dict.fromkeys(seen["run"]) if name in own}
    shared = shared_runs(reference, question, present)
    theirs = reference.requests(question)
    place = ["world", "workload", *axes]
    kept = [frame[frame["run"].isin(shared)] for frame in (theirs, seen)]
    keys = [*place, "policy", "refresh_s"]
    by_row = [{_key(at): rows for at, rows in frame.groupby(keys, dropna=False, sort=False)} for frame in kept]
    rows = []
    for at, after in by_row[1].items():
        before = by_row[0].get(at)
        if before is None:
            continue
        of_baseline = [_baseline(frames, at, baseline) for frames in by_row]
        rows.append(_row(dict(zip(keys, at, strict=True)), before, after, of_baseline))
    code = {name: str(described.get("code", {}).get(name, "unknown")) for name in ("source", "commit")}
    return Agreement(reference.place, reference.code(question), code, tuple(rows), len(present) - len(shared))


def _same_question(one: RunSpec, other: RunSpec) -> bool:
    """Whether both ask the same: how a machine emulates it may differ, what is emulated may not."""
    if one.world == "analytic" and one.simulation != other.simulation:
        return False
    return one.world == other.world and one.scenario == other.scenario


def _key(at: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row's key in which a refresh interval that is not there is None, because NaN equals nothing."""
    return tuple(None if isinstance(value, float) and value != value else value for value in at)


def _baseline(rows: Mapping[tuple[Any, ...], pd.DataFrame], at: tuple[Any, ...], policy: str) -> pd.DataFrame | None:
    same = [frame for key, frame in rows.items() if key[:-2] == at[:-2] and key[-2] == policy]
    return None if at[-2] == policy or not same else same[0]


def _row(
    row: Mapping[str, Any], before: pd.DataFrame, after: pd.DataFrame, baseline: Sequence[pd.DataFrame | None]
) -> RowAgreement:
    pairs = before.merge(after, on=KEYS, suffixes=("_before", "_after"))
    gaps_ms = (pairs["ttft_ms_after"] - pairs["ttft_ms_before"]).abs()
    close = gaps_ms <= ROUNDING_MS + ROUNDING_SHARE * pairs["ttft_ms_before"]
    close |= pairs["ttft_ms_before"].isna() & pairs["ttft_ms_after"].isna()
    same = close & (pairs["decode_id_before"] == pairs["decode_id_after"])
    same &= pairs["status_before"] == pairs["status_after"]
    unequal = int((~same).sum()) + abs(len(before) - len(after))
    change = Interval.of_estimate(relative_change(counted(before), counted(after), "ttft_ms"))
    effect = Interval.exactly(float("nan"))
    if baseline[0] is not None and baseline[1] is not None:
        effect = Interval.of_estimate(_effect(*map(counted, (baseline[0], before, baseline[1], after))))
    return RowAgreement(
        row=row,
        runs=after["run"].nunique(),
        requests=len(pairs),
        unequal=unequal,
        largest_ms=float(gaps_ms.max()) if len(gaps_ms.dropna()) else 0.0,
        change=change,
        effect=effect,
        verdict=_verdict(str(row["world"]), unequal, [change, effect]),
    )


def _verdict(world: str, unequal: int, differences: Sequence[Interval]) -> Verdict:
    if world == "analytic":
        return "differs" if unequal else "equal"
    known = [one for one in differences if one.value == one.value]
    judged = {one.against_margin(margins.TTFT_MARGIN_PERCENT) for one in known}
    return "differs" if "beyond" in judged else "agrees" if judged == {"within"} else "undecided"


def _effect(base: pd.DataFrame, row: pd.DataFrame, own_base: pd.DataFrame, own_row: pd.DataFrame) -> Estimate:
    """The change of a policy against the baseline in the sweep less that in the reference, percentage points.

    Over the requests that completed in all four.
    """
    both = None
    for name, frame in (("base", base), ("row", row), ("own_base", own_base), ("own_row", own_row)):
        done = frame.loc[frame["status"] == "completed", [*KEYS, "ttft_ms"]].rename(columns={"ttft_ms": name})
        both = done if both is None else both.merge(done, on=KEYS)
    assert both is not None
    units = units_of(both)
    sums = np.stack([np.bincount(units, both[name]) for name in ("base", "row", "own_base", "own_row")], axis=1)

    def points(often: NDArray[np.int64]) -> NDArray[np.float64]:
        base_ms, row_ms, own_base_ms, own_row_ms = (often @ sums).T
        found: NDArray[np.float64] = 100 * (own_row_ms / own_base_ms - row_ms / base_ms)
        return found

    return Estimate(*bootstrap(units, points), len(np.unique(units)), len(both))


def agreement_text(found: Agreement) -> list[str]:
    """What the comparison says, a sentence a world, and where it fails the rows."""
    said = []
    for world in dict.fromkeys(str(one.row["world"]) for one in found.rows):
        rows = [one for one in found.rows if one.row["world"] == world]
        said += _analytic(found, rows) if world == "analytic" else _emulated(rows)
    if found.beyond:
        said.append(f"{found.beyond} runs of this sweep are not in the reference and were not compared.")
    return [f"Against {found.place}: {sentence}" for sentence in said]


def _analytic(found: Agreement, rows: Sequence[RowAgreement]) -> list[str]:
    wrong = [one for one in rows if one.verdict == "differs"]
    runs, requests = sum(one.runs for one in rows), sum(one.requests for one in rows)
    whole = f"{requests:,} requests in {runs:,} runs"
    if not wrong:
        return [f"your results agree in the analytic world: {whole}, all equal to rounding."]
    worst = sorted(wrong, key=lambda one: -abs(one.change.value))[:5]
    shown = "; ".join(
        f"{one.name} {one.unequal:,} of {one.requests:,} requests, mean TTFT {one.change.value:+.2f} %" for one in worst
    )
    more = f"; and {len(wrong) - len(worst)} more" if len(wrong) > len(worst) else ""
    same = found.code["source"] == found.own_code["source"]
    why = (
        f"The code is the same ({found.code['source']}), so look at the versions of the packages and the processor"
        if same
        else f"The code is another ({found.own_code['source']}, reference {found.code['source']}): expected if a change"
        " was meant to change results"
    )
    return [
        f"your results differ in the analytic world in {len(wrong)} of {len(rows)} rows ({whole}): {shown}{more}."
        f" {why}."
    ]


def _emulated(rows: Sequence[RowAgreement]) -> list[str]:
    margin = f"{margins.TTFT_MARGIN_PERCENT:g}"
    of = {verdict: [one for one in rows if one.verdict == verdict] for verdict in ("differs", "undecided", "agrees")}
    word = "differ" if of["differs"] else "agree" if not of["undecided"] else "neither agree nor differ for sure"
    text = (
        f"your results {word} in the emulated world: of {len(rows)} rows {len(of['agrees'])} agree, with the mean TTFT"
        f" within {margin} % and the gain within {margin} points of the reference's by the whole 95 % interval"
    )
    for verdict, name in (("differs", "differ"), ("undecided", "are not decided")):
        if of[verdict]:
            text += f"; {len(of[verdict])} {name} ({'; '.join(map(_figures, of[verdict]))})"
    return [f"{text}."]


def _figures(one: RowAgreement) -> str:
    change, effect = one.change, one.effect
    said = f"{one.name} {change.value:+.1f} % [{change.low:+.1f}, {change.high:+.1f}]"
    if effect.value == effect.value:
        said += f", gain {effect.value:+.1f} points [{effect.low:+.1f}, {effect.high:+.1f}]"
    return said
