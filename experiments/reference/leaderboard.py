"""The leaderboard: every policy in every regime against round-robin on the same requests, and one score over all.

The score is the geometric mean over the regimes of the ratio of mean TTFTs, the mean that ranks alike whatever the
ratios are taken against (Fleming and Wallace, Communications of the ACM 29 (1986), 218-221). Its interval is a
bootstrap over seeds, as every other here: a seed has the same requests and background traffic in all policies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.analysis import Estimate, Interval, bootstrap, counted, paired_change, units_of
from experiments.drawing import HeatMap, Quantity, Scale, place_among, style_of
from experiments.reference.data_set import DataSet, check_question

Floats = NDArray[np.float64]

QUESTION = "regimes"
PLACE = "regime"
EMULATED_INSTEAD = {"faults": "faults", "hard_cases": "case"}
"""Other questions whose emulated runs make the emulated board while nobody has run the regimes there, with the column
that tells their places apart."""
BASELINE = "round_robin"


@dataclass(frozen=True)
class PolicyChange:
    """One policy in one regime: the change of its mean TTFT against the baseline, percent, with its interval, the
    smallest change that would have been found (80 % power), and the share of requests that it turned away, percent."""

    change: Interval
    detectable: float
    rejected_percent: float


@dataclass(frozen=True)
class Standing:
    """A policy in one world. `score`: change of the mean TTFT over all regimes, percent; `behind`: of the first policy
    by score, points, None for that one. Both are None where it was not run in every regime, or turned requests away:
    the mean of those that it served is not comparable."""

    policy: str
    cells: Mapping[str, PolicyChange]
    score: Interval | None
    score_detectable: float
    behind: Interval | None

    @property
    def ties_with_first(self) -> bool:
        """Whether its score is not significantly worse than the first one's."""
        return self.behind is None or self.behind.low <= 0


@dataclass(frozen=True)
class Board:
    """The standings of one world, best score first, those without one last."""

    world: str
    regimes: tuple[str, ...]
    seeds: int
    requests: int
    standings: tuple[Standing, ...]


def board_requests(data: DataSet) -> pd.DataFrame:
    """The requests that the boards are made of: of the regimes, and of what stands in for them where they were not
    emulated. SpecError where the reference has no regimes."""
    check_question(data, QUESTION)
    requests = data.requests(QUESTION)
    if (requests["world"] == "emulated").any():
        return requests
    frames = [requests]
    for question, axis in EMULATED_INSTEAD.items():
        if question in data.questions:
            others = data.requests(question)
            others = others[others["world"] == "emulated"]
            frames.append(others.assign(**{PLACE: f"{question}: " + others[axis].astype(str)}).drop(columns=axis))
    return pd.concat(frames, ignore_index=True)


def make_board(requests: pd.DataFrame) -> list[Board]:
    """A board for each world that has runs of the baseline. `requests`: those of `board_requests`."""
    rows = counted(requests)
    boards = []
    for world in dict.fromkeys(rows["world"]):
        of_world = rows[rows["world"] == world]
        if BASELINE in set(of_world["policy"]):
            boards.append(_board(str(world), of_world, requests[requests["world"] == world]))
    return boards


def _board(world: str, rows: pd.DataFrame, everyone: pd.DataFrame) -> Board:
    regimes = tuple(dict.fromkeys(rows[PLACE]))
    by_cell = {key: group for key, group in rows.groupby(["policy", PLACE], sort=False)}
    policies = list(dict.fromkeys(rows["policy"]))
    turned_away = everyone.groupby(["policy", PLACE])["status"].agg(lambda status: 100 * (status == "rejected").mean())
    cells = {
        policy: {
            regime: _cell(by_cell[BASELINE, regime], by_cell[policy, regime], float(turned_away[policy, regime]))
            for regime in regimes
            if (policy, regime) in by_cell and (BASELINE, regime) in by_cell
        }
        for policy in policies
    }
    able = [
        policy
        for policy in policies
        if len(cells[policy]) == len(regimes) and not any(cell.rejected_percent for cell in cells[policy].values())
    ]
    sums = _sums(rows[rows["policy"].isin(able)], able, regimes)
    scores = {policy: _score(sums[policy], sums[BASELINE]) for policy in able}
    ranked = sorted(able, key=lambda policy: scores[policy].value)
    first = ranked[0]
    standings = [
        Standing(
            policy,
            cells[policy],
            Interval.of_estimate(scores[policy]),
            scores[policy].detectable(),
            None if policy == first else Interval.of_estimate(_score(sums[policy], sums[BASELINE], sums[first])),
        )
        for policy in ranked
    ]
    others = [Standing(policy, cells[policy], None, float("nan"), None) for policy in policies if policy not in able]
    return Board(world, regimes, rows["seed"].nunique(), len(rows[rows["policy"] == BASELINE]), (*standings, *others))


def _cell(baseline: pd.DataFrame, rows: pd.DataFrame, rejected_percent: float) -> PolicyChange:
    change = paired_change(baseline, rows, "ttft_ms")
    own = baseline["policy"].iloc[0] == rows["policy"].iloc[0]
    return PolicyChange(Interval.of_change(change), float("nan") if own else change.detectable, rejected_percent)


def _sums(rows: pd.DataFrame, policies: list[str], regimes: tuple[str, ...]) -> dict[str, Floats]:
    """By policy the sums of TTFT by unit and regime, [units, regimes], over the requests that all completed there."""
    done = rows[rows["status"] == "completed"]
    wide = done.pivot_table(index=[PLACE, "seed", "request_id"], columns="policy", values="ttft_ms").dropna()
    wide = wide.reset_index()
    wide["unit"] = units_of(wide)
    count = wide["unit"].max() + 1
    found: dict[str, Floats] = {}
    for policy in policies:
        parts = [wide[wide[PLACE] == regime] for regime in regimes]
        found[policy] = np.stack([np.bincount(part["unit"], part[policy], count) for part in parts], axis=1).astype(
            float
        )
    return found


def _score(mine: Floats, baseline: Floats, first: Floats | None = None) -> Estimate:
    """The change of the geometric mean of the ratios to the baseline, percent; less that of `first`, points."""

    def percent(sums: Floats, often: NDArray[np.int64]) -> Floats:
        ratios = (often @ sums) / (often @ baseline)
        found: Floats = 100 * (np.exp(np.log(ratios).mean(axis=1)) - 1)
        return found

    def statistic(often: NDArray[np.int64]) -> Floats:
        return percent(mine, often) - (0 if first is None else percent(first, often))

    count = len(baseline)
    return Estimate(*bootstrap(np.arange(count), statistic), count, count)


def board_chart(board: Board) -> HeatMap:
    """The standings of one world as a heat map: what each policy saves over the baseline, the best score on top."""
    order = [standing.policy for standing in reversed(board.standings)]
    rows = pd.DataFrame(
        {
            "world": board.world,
            "workload": "conversation",
            "policy": standing.policy,
            "regime_place": board.regimes.index(regime),
            "policy_place": order.index(standing.policy),
            "gain_percent": -cell.change.value,
            "gain_low": -cell.change.high,
            "gain_high": -cell.change.low,
        }
        for standing in board.standings
        for regime, cell in standing.cells.items()
        if standing.policy != BASELINE
    )
    rows["policy_place"] = rows["policy_place"].rank(method="dense").astype(int) - 1
    shown = [policy for policy in order if policy != BASELINE]
    gain = Quantity(
        "gain_percent", f"Mean TTFT saved over {style_of(BASELINE).label}", "%", 1,
        low="gain_low", high="gain_high", scale=Scale.CHANGE,
    )  # fmt: skip
    return HeatMap(
        name="leaderboard",
        title="Which policy serves the first token soonest? By regime, the best score on top",
        rows=rows,
        policy="netkv",
        x=place_among("regime_place", "Regime", [name.replace("_", " ") for name in board.regimes]),
        y=place_among("policy_place", "Policy", [style_of(policy).label for policy in shown]),
        value=gain,
    )
