"""Many explanations together: how often a decision was regretted, by how much, and at which distance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from experiments.explaining.explanation import SAME_MS, Explanation


def as_json(explanation: Explanation) -> dict[str, Any]:
    """An explanation for machines: its fields, and what follows from them."""
    found = asdict(explanation)
    rows = zip(found.pop("candidates"), explanation.candidates, strict=True)
    other = explanation.runner_up
    return found | {
        "candidates": [{**row, "predicted_ms": one.predicted_ms, "true_ms": one.true_ms} for row, one in rows],
        "runner_up_id": None if other is None else other.decode_id,
        "lead": explanation.lead,
        "best_id": explanation.best.decode_id,
        "regret_ms": explanation.regret_ms,
        "same_choice": explanation.same_choice,
        "prediction_off_ms": explanation.prediction_off_ms,
    }


def summarise_explanations(explanations: Sequence[Explanation], decisions: int, over_ms: float) -> dict[str, Any]:
    """The regrets of a sample of a run's `decisions`: in all and by tier of the instance chosen, and what differs.

    over: share of decisions with a regret above `over_ms`. off_*: of the rebuilt predictions against the recorded.
    """
    tiers = sorted({one.chosen.tier for one in explanations})
    off_ms = np.abs([one.prediction_off_ms for one in explanations])
    return {
        "run": explanations[0].run,
        "world": explanations[0].world,
        "policy": explanations[0].policy,
        "decisions": decisions,
        "over_ms": over_ms,
        **_regrets(explanations, over_ms),
        "by_tier": {
            str(tier): _regrets([one for one in explanations if one.chosen.tier == tier], over_ms) for tier in tiers
        },
        "same_choice": sum(one.same_choice for one in explanations),
        "same_prediction": int((off_ms <= SAME_MS).sum()),
        "off_median_ms": float(np.median(off_ms)),
        "off_most_ms": float(off_ms.max()),
    }


def _regrets(explanations: Sequence[Explanation], over_ms: float) -> dict[str, Any]:
    regrets_ms = np.array([one.regret_ms for one in explanations])
    return {
        "explained": len(explanations),
        "over": float((regrets_ms > over_ms).mean()),
        "mean_regret_ms": float(regrets_ms.mean()),
        "most_regret_ms": float(regrets_ms.max()),
        "mean_cost_ms": float(np.mean([one.chosen.true_ms for one in explanations])),
    }


def summary_text(found: dict[str, Any]) -> str:
    """The summary as a table by tier, and what of the rebuilt decisions differs from the record."""
    over = f"> {found['over_ms']:g} ms"
    lines = [
        f"{found['run']}: {found['policy']}, {found['explained']} of {found['decisions']} decisions explained",
        "",
        f"{'tier':<6}{'decisions':>10}{over:>12}{'mean regret':>13}{'most':>9}{'mean cost':>11}  ms, fluid model",
        *(_line(f"{tier}", rows) for tier, rows in found["by_tier"].items()),
        _line("all", found),
        "",
        f"Rebuilt: {found['same_choice']} of {found['explained']} have the recorded choice,"
        f" {found['same_prediction']} the recorded prediction.",
    ]
    if found["same_prediction"] < found["explained"]:
        lines.append(
            f"The predicted KV transfer differs by {found['off_median_ms']:.1f} ms in the median, at most"
            f" {found['off_most_ms']:.1f} ms."
        )
    return "\n".join(lines)


def _line(name: str, rows: dict[str, Any]) -> str:
    return (
        f"{name:<6}{rows['explained']:>10}{rows['over']:>11.0%} {rows['mean_regret_ms']:>13.1f}"
        f"{rows['most_regret_ms']:>9.1f}{rows['mean_cost_ms']:>11.1f}"
    )
