"""Typed findings on intervals made by hand, and that margins are defined in one place."""

from __future__ import annotations

import ast
import math
from pathlib import Path

import pytest

from experiments.analysis import cache_aware_penalty, invariance, largest_gain, margins, overhead, tiers_kept
from experiments.analysis.interval import Interval
from tests.support.paths import ROOT

NAMES = {name for name in vars(margins) if name.isupper()}
FIGURES_OF_THE_PAPER = {21.2, 17.6, 20.1}
MODULES = [path for path in sorted((ROOT / "experiments").rglob("*.py")) if path.name != "margins.py"]
MARGIN_WORDS = (
    "TTFT_MARGIN",
    "TBT_MARGIN",
    "SLO_MARGIN",
    "MARGIN_",
    "CLAIMED",
    "LEAST_SHARE",
    "LEAST_CONF",
    "ROBUST",
    "SAME_TIER",
)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def assigned(tree: ast.Module) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_other_module_defines_a_margin_or_repeats_a_claimed_figure(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    defined = {name for name in assigned(tree) if name in NAMES or (name.isupper() and name.startswith(MARGIN_WORDS))}
    assert defined == set()
    numbers = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert not FIGURES_OF_THE_PAPER & {value for value in numbers if isinstance(value, float)}
    assert [figure for figure in FIGURES_OF_THE_PAPER if f"{figure} %" in text] == []


@pytest.mark.parametrize(
    ("low", "high", "significance", "margin", "bound"),
    [
        (1.0, 2.0, "higher", "within", "below"),
        (-2.0, -1.0, "lower", "within", "below"),
        (-1.0, 2.0, "none", "within", "below"),
        (4.0, 6.0, "higher", "undecided", "undecided"),
        (6.0, 7.0, "higher", "beyond", "above"),
        (-7.0, -6.0, "lower", "beyond", "below"),
        (-5.0, 5.0, "none", "within", "undecided"),
        (math.nan, math.nan, "none", "undecided", "undecided"),
    ],
)
def test_an_interval_is_judged_whole(low: float, high: float, significance: str, margin: str, bound: str) -> None:
    found = Interval((low + high) / 2, low, high)
    assert found.significance == significance
    assert found.against_margin(5.0) == margin
    assert found.against_bound(5.0) == bound
    assert (-found).significance == {"lower": "higher", "higher": "lower", "none": "none"}[significance]


def about(value: float, half: float = 1.0) -> Interval:
    return Interval(value, value - half, value + half)


def test_one_change_beyond_the_margin_refutes_invariance_and_one_wide_interval_leaves_it_undecided() -> None:
    assert invariance([about(1), about(-3)]).verdict == "invariant"
    assert invariance([about(1), about(4.5)]).verdict == "undecided"
    found = invariance([about(1, 9), about(7), about(-2)])
    assert (found.verdict, found.worst, found.widest, found.beyond, found.within) == ("not invariant", 1, 0, (1,), 1)


def test_tiers_are_kept_lost_or_undecided() -> None:
    assert tiers_kept([about(95), about(92)]).verdict == "kept"
    assert tiers_kept([about(95), about(90)]).verdict == "undecided"
    found = tiers_kept([about(95), about(70), about(60)])
    assert (found.verdict, found.fewest, found.lost) == ("not kept", 2, 2)


def test_the_overhead_is_shown_where_it_is_above_the_bound_for_all_its_interval() -> None:
    assert overhead([about(0.1, 0.2), about(-1, 0.2)]).verdict == "below"
    assert overhead([Interval.exactly(0.5)]).verdict == "undecided"
    found = overhead([about(2.0, 3.0), about(1.0, 0.1)])
    assert (found.verdict, found.worst, found.reached, found.beyond) == ("above", 1, 2, 1)


@pytest.mark.parametrize(
    ("gain", "beside", "supports", "refutes"),
    [
        (about(25), "above", True, False),
        (about(20), "undecided", True, False),
        (about(15, 10), "undecided", False, False),
        (about(15), "below", False, True),
    ],
)
def test_the_largest_gain_beside_a_claimed_one(gain: Interval, beside: str, supports: bool, refutes: bool) -> None:
    found = largest_gain([about(0), about(-4), gain], 20.0)
    assert (found.best, found.beside, found.supports, found.refutes) == (2, beside, supports, refutes)
    assert (found.gains, found.losses) == (1, 1)


def test_cache_aware_only_counts_where_it_is_slower_and_grows() -> None:
    found = cache_aware_penalty([about(9), about(5), about(0)], [about(0), about(2), about(2)])
    assert (found.both, found.shown, found.slower, found.steeper) == ((1,), 1, 2, 2)
    assert not found.slower_nowhere
    assert cache_aware_penalty([about(-9)], [about(0)]).slower_nowhere
