"""`netkv paths`: which equal-cost paths a run's connections really took, and where they met."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments.verbs.options import AsJson


def paths(
    run: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of an emulated run.")],
    pcap: Annotated[
        bool, typer.Option("--pcap", help="Add what the run's captures say of each connection, by link.")
    ] = False,
    other: Annotated[
        Path | None, typer.Option("--with", metavar="DIR", help="Another run of the seed: do both have the same paths?")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print the spread over equal-cost paths by tier, the collisions and the links with the most connections at once.

    The switches told the paths after the run; exit code 2 when the folder does not hold them. With --pcap also one row
    for each connection and captured link: frames, their bytes, retransmitted frames, and round trips from there and
    back, all in the emulation's own packets and wall time. With --with the share of connections that two runs of a
    seed have in common and that took the same path in both.
    """
    from experiments.comparing import (
        agreement,
        busiest_links,
        collisions,
        read_captures,
        read_connections,
        spread_by_tier,
    )
    from experiments.running import strict

    connections = read_connections(run)
    found: dict[str, Any] = {
        "spread": spread_by_tier(connections),
        "collisions": collisions(connections),
        "links": busiest_links(connections),
    }
    if other is not None:
        found["agreement"] = agreement(connections, read_connections(other))
    captured = read_captures(run) if pcap else None
    if captured is not None:
        found["captures"] = strict(captured.to_dict("records"))
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    for tier, spread in found["spread"].items():
        unknown = f", {spread['unknown']} unknown" if spread["unknown"] else ""
        fullest = (
            f"; the fullest has {spread['fullest_over_even']:.2f} x an even share" if spread["connections"] else ""
        )
        taken = " ".join(str(count) for count in spread["by_path"])
        typer.echo(
            f"tier {tier}: {spread['connections']} connections on {spread['equal_paths']} paths:"
            f" {taken}{fullest}{unknown}"
        )
    if not found["spread"]:
        typer.echo("no connection had a choice of paths")
    met = found["collisions"]
    typer.echo(
        f"{met['transfers']} transfers had a choice: {met['bunched']} put more stripes on one path than an even deal,"
        f" {met['met']} met other traffic on the way up ({met['stripes_met']} of {met['stripes']} stripes)"
    )
    if alike := found.get("agreement"):
        typer.echo(f"{alike['same_path']} of {alike['connections']} connections that both runs have took the same path")
    for link in found["links"]:
        typer.echo(f"  {link['link']:<14} {link['at_once']:>4} connections at once, {link['total']} in all")
    for link, rows in captured.groupby("link") if captured is not None else ():
        typer.echo(f"captured at {link!s}:")
        typer.echo(rows.drop(columns="link").to_string(index=False, float_format="{:.1f}".format, na_rep="-"))
