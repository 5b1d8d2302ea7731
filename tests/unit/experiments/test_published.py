"""The paper's numbers as data: they agree with each other, with its abstract, and with what is inferred from them."""

from __future__ import annotations

import pytest

from experiments.analysis import largest_error, margins
from experiments.published import HOW_KNOWN, PublishedCell, published_cells, published_facts
from scheduler import POLICIES

FACTS = published_facts()


def value(table: str, policy: str, quantity: str, against: str = "", **condition: str | float) -> float:
    (cell,) = [
        cell
        for cell in published_cells(table)
        if (cell.policy, cell.quantity, cell.against) == (policy, quantity, against) and cell.condition == condition
    ]
    return cell.value


def test_every_table_and_figure_is_there_whole() -> None:
    counts = {table: len(published_cells(table)) for table in dict.fromkeys(cell.table for cell in published_cells())}
    assert counts == {
        **{"Table 2": 36, "Table 3": 30, "Table 4": 24, "Table 5": 28, "Table 6": 10},
        **{"Figure 1": 60, "Figure 2": 63, "Figure 3": 42, "Figure 4": 36, "Figure 5": 24},
    }


def test_no_cell_is_there_twice() -> None:
    def key(cell: PublishedCell) -> str:
        return repr((cell.table, sorted(cell.condition.items()), cell.policy, cell.against, cell.quantity))

    assert len({key(cell) for cell in published_cells()}) == len(published_cells())


def test_a_cell_says_whom_it_is_of_and_how_it_is_known() -> None:
    assert {cell.policy for cell in published_cells()} <= set(POLICIES)
    assert {cell.known for cell in published_cells()} == {"P"}
    assert {letter for fact in FACTS.values() for letter in fact.known} == set(HOW_KNOWN)
    assert {cell.table for cell in published_cells() if cell.read_off_plot} == {f"Figure {n}" for n in (2, 3, 4, 5)}


def test_what_was_never_published_is_refused() -> None:
    with pytest.raises(ValueError, match="'Table 1' is not one of Table 2, "):
        published_cells("Table 1")


def test_the_abstracts_figures_are_cells() -> None:
    base, full = (
        value("Table 2", policy, "mean_ttft", workload="rag", load_percent=200)
        for policy in ("round_robin", "paper_full")
    )
    assert round(100 * (1 - full / base), 1) == margins.CLAIMED_SAVED_OVER_ROUND_ROBIN_PERCENT
    change = value("Table 3", "paper_full", "mean_ttft_change", "cla_star", context_tokens=16_384)
    assert -change == margins.CLAIMED_SAVED_OVER_CLA_STAR_PERCENT
    gain = value("Table 3", "paper_full", "slo_attainment_change", "round_robin", context_tokens=16_384)
    assert gain == margins.CLAIMED_SLO_GAIN_POINTS
    assert max(cell.value for cell in published_cells() if cell.quantity == "mean_tbt_change") < margins.TBT_MARGIN_MS


@pytest.mark.parametrize("load", [100, 200, 250])
@pytest.mark.parametrize("policy", ["round_robin", "cla_star", "paper_full"])
def test_ttft_less_transfer_is_the_same_at_every_load_under_every_policy(policy: str, load: int) -> None:
    ttft, transfer = (
        value("Table 2", policy, quantity, workload="rag", load_percent=load)
        for quantity in ("mean_ttft", "mean_transfer")
    )
    assert ttft - transfer == pytest.approx(FACTS["ttft_minus_transfer"].value, abs=1)


def test_the_mean_prompt_follows_from_the_tiers_and_the_transfers() -> None:
    """Two policies' shares of two tiers and their mean transfers are two equations for the two tiers' means."""
    (in_1, across_1, mean_1), (in_2, across_2, mean_2) = (
        (
            *(value("Table 6", policy, "transfers_of_tier", workload="rag", tier=tier) / 100 for tier in (2, 3)),
            value("Table 6", policy, "mean_transfer", workload="rag"),
        )
        for policy in ("cla_star", "paper_full")
    )
    in_pod_ms = (mean_1 * across_2 - mean_2 * across_1) / (in_1 * across_2 - in_2 * across_1)
    tokens = in_pod_ms / 1e3 * FACTS["bandwidth_of_tier_2"].value * 1e9 / 327_680
    assert tokens == pytest.approx(FACTS["mean_prompt"].value, rel=0.01)


def test_staleness_moves_nothing_in_figure_2() -> None:
    lines: dict[tuple[str, str], set[float]] = {}
    for cell in published_cells("Figure 2"):
        lines.setdefault((cell.policy, cell.quantity), set()).add(cell.value)
    assert {len(values) for values in lines.values()} == {1}


def test_the_theorems_example_is_its_bound_at_30_percent() -> None:
    """Tiers of 4:1, both 30 % used: (A_1 - A_2) / (C_1 + C_2) = (2.8 - 0.7) / 5, the 42 points that are reported.

    That bound is sufficient: since nothing is used below 0 %, the order survives 45 points.
    """
    ratio = FACTS["theorem_bandwidth_ratio"].value
    assert 100 * 0.7 * (ratio - 1) / (ratio + 1) == pytest.approx(FACTS["theorem_error"].value)
    assert 100 * largest_error((ratio, 1.0), (0.3, 0.3)) == pytest.approx(45)
