"""`netkv compare`: how far the analytic answer is from real packets, transfer by transfer and policy by policy."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments.verbs.options import AsJson

GAINS_HEAD = f"{'':<22} {'emulated':>17} {'same decisions':>17} {'own decisions':>17} {'bias':>5}"
HEAD = f"{'':<16} {'transfers':>9} {'median':>8} {'p90':>8} {'signed':>8} {'all time':>9}"


def compare(
    emulated: Annotated[Path, typer.Argument(metavar="EMULATED_DIR", help="An emulated run or sweep.")],
    analytic: Annotated[
        Path | None, typer.Argument(metavar="[ANALYTIC_DIR]", help="Its analytic twin (default: simulated now).")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write comparison.json, transfers.csv and figures there.")
    ] = None,
    invalid: Annotated[bool, typer.Option("--invalid", help="Use runs whose verdict is invalid, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare emulated runs with the analytic world.

    Replay: the simulator takes the decisions, paths and start times of the emulated run, so that only the network
    model differs. Models: from a closed form to that, what each step explains. Independent: each world makes its own
    decisions. Gains: each policy's change of the mean TTFT, emulated, in the fluid model with the same decisions, and
    in it deciding for itself; the first less the second is the bias that emulation adds.
    """
    from experiments.comparing import compare_folders, in_words
    from experiments.running import check_free, new_folder, strict, write_json

    if out is not None:
        check_free(out)
    report, table = compare_folders(emulated, analytic, invalid=invalid)
    if out is not None:
        with new_folder(out) as partial:
            write_json(partial / "comparison.json", report)
            table.to_csv(partial / "transfers.csv", index=False)
            from experiments.comparing import draw_comparison  # Matplotlib takes longer to load than all else

            draw_comparison(table, report, partial)
    typer.echo(json.dumps(strict(report), indent=1) if as_json else f"{_text(report)}\n\n{in_words(report)}")


def _text(report: dict[str, Any]) -> str:
    replay = report["replay"]
    lines = [
        "Replay: (emulated - fluid) / fluid",
        HEAD,
        _row("all", {**replay["kv_transfer"], "total_error": replay["transfer_time_error"]}),
    ]
    for title, section in (("policy", "by_policy"), ("tier", "by_tier"), ("size", "by_size"), ("load", "by_load")):
        lines += [
            _row(f"{title} {name}" if title == "tier" else name, found) for name, found in replay[section].items()
        ]
    if nearest := replay["less_latency"]:
        lines += ["", "The same, less what the emulation adds to every transfer", HEAD, _row("all", nearest)]
        lines += [_row(name, found) for name, found in nearest["by_size"].items()]
    lines += ["", "Models: the error left by each", HEAD]
    lines += [_row(model["model"], model) for model in report["models"]]
    lines += ["", "Independent: each world makes its own decisions"]
    for run in report["independent"]["runs"]:
        lines.append(
            f"{run['policy']:<16} seed {run['seed']}: mean TTFT {run['emulated_ttft_ms']:.0f} ms emulated,"
            f" {run['analytic_ttft_ms']:.0f} analytic; KV transfer {run['emulated_kv_transfer_ms']:.0f} and"
            f" {run['analytic_kv_transfer_ms']:.0f} ms"
        )
    parted = report["independent"]["decisions"]
    reasons = ", ".join(f"{name} {count}" for name, count in parted["parted_by"].items())
    lines.append(
        f"{parted['alike']} of {parted['requests']} requests went to the same instance; the others by {reasons}"
    )
    for ranking in report["independent"]["rankings"]:
        low, high = ranking["kendall_tau_interval"]
        lines.append(
            f"refresh {ranking['refresh_s']:g} s: Kendall's tau {ranking['kendall_tau']:.2f} [{low:.2f}, {high:.2f}]"
            f" over {len(ranking['policies'])} policies, {ranking['requests']} requests"
        )
    for baseline, gains in groupby(report["gains"], lambda gain: gain["baseline"]):
        lines += ["", f"Gains: mean TTFT against {baseline}, %, three ways", GAINS_HEAD, *map(_gain_row, gains)]
    return "\n".join(lines)


def _gain_row(gain: dict[str, Any]) -> str:
    name = gain["policy"] if gain["refresh_s"] is None else f"{gain['policy']} {gain['refresh_s']:g} s"
    ways = (
        f"{gain[way]['percent']:+.1f} [{gain[way]['low']:+.0f}, {gain[way]['high']:+.0f}]"
        for way in ("emulated", "same_decisions", "own_decisions")
    )
    return f"{name:<22}" + "".join(f" {text:>17}" for text in ways) + f" {gain['bias_points']:>+5.1f}"


def _row(name: str, found: dict[str, Any]) -> str:
    row = (
        f"{name:<16} {found['count']:>9} {found['median_abs_error']:>8.1%} {found['p90_abs_error']:>8.1%}"
        f" {found['median_error']:>+8.1%}"
    )
    return f"{row} {found['total_error']:>+9.1%}" if "total_error" in found else row
