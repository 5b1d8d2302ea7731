"""`netkv tune`: the best parameters of a policy for a specification, found on requests that it is not judged by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments.verbs import choices
from experiments.verbs.options import AsJson, Congestion, Requests, Seed, Setting, Trace, changes_of

TUNED = "tuned.yaml"
SHOWN = 5


def tune(
    spec_file: Annotated[
        Path | None, typer.Argument(metavar="[SPEC.yaml]", help="What will be evaluated (default: ours).")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The result's folder; must not exist yet.")] = Path(
        "results/tune"
    ),
    policy: Annotated[
        str, typer.Option(metavar="NAME", help="The policy to tune.", autocompletion=choices.policies)
    ] = "cla_star",
    grid: Annotated[
        list[str] | None, typer.Option(metavar="PARAMETER=V,V", help="Values to try (default: ours for cla_star).")
    ] = None,
    objective: Annotated[
        str, typer.Option(metavar="FIGURE", help="What to minimise.", autocompletion=choices.objectives)
    ] = choices.TUNING_OBJECTIVES[0],
    slice_: Annotated[
        int | None, typer.Option("--slice", min=1, metavar="N", help="Requests to tune on (default: as many).")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=100, metavar="N", help="Seeds a point.")] = 3,
    trace: Trace = None,
    requests: Requests = None,
    congestion: Congestion = None,
    seed: Seed = None,
    settings: Setting = None,
    as_json: AsJson = False,
) -> None:
    """Search a grid of a policy's parameters in the analytic world, on a slice disjoint from the evaluation.

    The folder holds `tune.json` (grid, slice, ranking and winner), `grid.parquet` (a row a point and seed) and
    `tuned.yaml`, the specification with the winner in it: `netkv run DIR/tuned.yaml`.
    """
    import yaml
    from rich.console import Console
    from rich.progress import Progress

    from experiments.planning import DEFAULT_GRIDS, OBJECTIVES, grid_points, ranking, search, tuning_slice
    from experiments.running import SpecError, check_free, git_commit, new_folder, read_spec, versions, write_json
    from topologies import did_you_mean

    if objective not in OBJECTIVES:
        meant = did_you_mean(objective, OBJECTIVES)
        raise SpecError(f"objective: {objective!r} is not one of {', '.join(OBJECTIVES)}{meant}")
    changes = changes_of(settings=settings, trace=trace, requests=requests, congestion=congestion, seed=seed)
    spec = read_spec(spec_file, {**changes, "policy": policy})
    tried = _grid(grid) if grid else DEFAULT_GRIDS.get(policy, {})
    points = grid_points(policy, tried)
    part = tuning_slice(spec, slice_, seeds)
    check_free(out)
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("searching", total=len(points) * seeds)
        found = search(spec.model_dump(mode="json"), policy, points, part, lambda: progress.advance(task))
    ranked = ranking(found, list(tried), objective)
    winner = {name: float(ranked.loc[0, name]) for name in tried}  # type: ignore[arg-type]
    workload = spec.workload
    report: dict[str, Any] = {
        "policy": policy,
        "objective": objective,
        "winner": winner,
        "grid": {name: list(values) for name, values in tried.items()},
        "points": len(points),
        "ranking": ranked.to_dict("records"),
        "slice": {"first_request": part.first, "requests": part.count, "seeds": list(part.seeds)},
        "evaluation": {"first_request": workload.first_request, "requests": workload.requests, "seed": spec.seed},
        "workload": str(workload.trace.name if workload.trace else workload.profile),
        "versions": versions(),
        "git_commit": git_commit(),
    }
    tuned = spec.model_dump(mode="json")
    tuned["policy_parameters"] = {**tuned["policy_parameters"], policy: winner}
    with new_folder(out) as partial:
        found.to_parquet(partial / "grid.parquet", index=False)
        write_json(partial / "tune.json", report)
        (partial / TUNED).write_text(yaml.safe_dump(tuned, sort_keys=False), encoding="utf-8")
    if as_json:
        typer.echo(json.dumps({"out": str(out), **{name: report[name] for name in ("winner", "slice", "objective")}}))
        return
    for row in ranked.head(SHOWN).to_dict("records"):
        weights = "  ".join(f"{name} {row[name]:g}" for name in tried)
        typer.echo(f"{weights}   {objective} {row['score']:.2f}")
    typer.echo(
        f"winner of {len(points)} points on requests {part.first} to {part.first + part.count - 1}: "
        + ", ".join(f"{name}={value:g}" for name, value in winner.items())
    )
    typer.echo(f"results: {out}; run it: netkv run {out / TUNED}")


def _grid(options: list[str]) -> dict[str, tuple[float, ...]]:
    from experiments.running import SpecError

    grid = {}
    for option in options:
        name, _, values = option.partition("=")
        try:
            grid[name.strip()] = tuple(dict.fromkeys(float(value) for value in values.split(",")))
        except ValueError:
            raise SpecError(f"--grid {option}: PARAMETER=NUMBER,NUMBER was expected") from None
    return grid
