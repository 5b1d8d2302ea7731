"""The data card of reference results: what they are, who made them with what, and what they are no answer to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from experiments.reference.data_set import DataSet

COLUMNS = (
    ("requests.parquet", "run", "number of the run", "`number` in runs.parquet"),
    ("requests.parquet", "request_id", "number of the request, in order of arrival", "from 0"),
    ("requests.parquet", "decode_id", "decode instance that the policy chose", "index; -1: none"),
    ("requests.parquet", "status", "`completed`, `failed` or `rejected`", ""),
    ("requests.parquet", "ttft_us", "arrival to first token, transfer and first step included", "us; null: never"),
    ("requests.parquet", "kv_transfer_us", "first connection to last byte of the KV transfer", "us; null: never"),
    ("runs.parquet", "number, question, name", "the run, and the sweep that it is of", ""),
    ("runs.parquet", "world, policy, seed", "what replayed it, who decided, its random streams", ""),
    ("runs.parquet", "verdict", "`valid`, `suspect` or `invalid`", ""),
    ("runs.parquet", "snapshots", "telemetry snapshots that decisions were based on", "count"),
    ("runs.parquet", "correlation_s", "time scale of the congestion", "s"),
    ("runs.parquet", "labels", "what the sweep varies, its value here", "JSON"),
    ("runs.parquet", "spec", "the whole specification", "JSON"),
    ("runs.parquet", "source, commit, machine", "what made it: digest of the code, commit, processor", ""),
)


def data_card(data: DataSet, commands: Mapping[tuple[str, str], str], made_with: str) -> str:
    """The card of a data set as Markdown. `commands`: what made the runs of a question in a world;
    `made_with`: all of it."""
    return "\n".join(_card(data, commands, made_with)) + "\n"


def _card(data: DataSet, commands: Mapping[tuple[str, str], str], made_with: str) -> Iterator[str]:
    runs = data.runs
    commits, machines = (", ".join(dict.fromkeys(runs[name])) for name in ("commit", "machine"))
    yield "# Reference results"
    yield ""
    yield f"{len(data.rows):,} requests of {len(runs):,} runs: the analytic runs behind figures and tables of docs, and"
    yield "emulated ones where they are named below. A row a request, without links and packets. What to do with them:"
    yield "[reference results](../../how-to/reference-results.md)."
    yield ""
    yield "| | |"
    yield "|---|---|"
    yield f"| made with | `{made_with}` |"
    yield f"| commit | {commits} |"
    yield f"| code | {', '.join(dict.fromkeys(runs['source']))} (digest of the modules that make a run) |"
    yield f"| machine | {machines} |"
    yield "| licence | that of the project, Apache-2.0 |"
    yield "| data of others | none: all requests are generated from a seed; no trace is replayed |"
    yield ""
    yield "## Runs"
    yield ""
    yield "| question | world | runs | requests | policies | seeds | command |"
    yield "|---|---|---|---|---|---|---|"
    sizes = data.rows.groupby("run").size()
    for (question, world), rows in runs.groupby(["question", "world"], sort=False):
        command = f"`{commands.get((str(question), str(world)), f'netkv sweep {question}')}`"
        yield (
            f"| {question} | {world} | {len(rows):,} | {int(sizes.loc[rows.index].sum()):,} |"
            f" {rows['policy'].nunique()} | {rows['seed'].nunique()} | {command} |"
        )
    yield ""
    yield "## Columns"
    yield ""
    yield "| table | column | meaning | unit |"
    yield "|---|---|---|---|"
    for row in COLUMNS:
        yield f"| {' | '.join(row)} |"
    yield ""
    yield "## Limits"
    yield ""
    yield "- Times are rounded to a microsecond; analytic runs of the same code are equal to that, emulated ones never."
    yield "- A fluid model and a scaled emulation of a fabric: policies are compared, no serving system is measured."
    yield "- The runs of profile `full` behind staleness, its map, faults and hard cases are in docs as tables alone"
    yield "  (`docs/data/*.csv`): `netkv reference build --profile full --out DIR` makes them."
