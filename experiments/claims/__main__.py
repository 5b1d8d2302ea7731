"""`python -m experiments.claims DIR... [--json]`: what the sweeps in some folders say of the paper's claims."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from experiments.claims import claim_lines, claims_table, verdicts
from experiments.running import StoreError, json_text


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m experiments.claims", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="a sweep, or a folder of sweeps")
    parser.add_argument("--json", action="store_true", help="everything, for a machine")
    given = parser.parse_args(arguments)
    try:
        found = verdicts(given.folders)
    except StoreError as problem:
        print(problem, file=sys.stderr)
        return 2
    if given.json:
        print(json_text({"claims": [verdict.as_json() for verdict in found]}), end="")
        return 0
    console = Console()
    console.print(claims_table(found))
    for line in claim_lines(found):
        console.print(f"- {line}", markup=False, highlight=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
