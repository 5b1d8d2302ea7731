"""An ALTO server beside an oracle: reads its `netkv.cost/v1` documents from their Unix socket.

    python -m testbed.alto_gateway --config controller.json --port 9465

In a sandbox it is a process of its own, so that what clients of HTTP ask for costs the controller nothing.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from controller import AltoSnapshot, load_config, serve_alto
from scheduler import OracleError, parse_document
from testbed.oracle_client import OracleClient, OracleUnavailableError
from topologies import Fabric, build_fattree


class OracleSource:
    """The latest document of an oracle as a snapshot; None while it does not answer or has nothing to say yet."""

    def __init__(self, fabric: Fabric, socket: Path) -> None:
        self._names = [link.name for link in fabric.links]
        self._client = OracleClient(socket)
        self.problem = ""

    def __call__(self) -> AltoSnapshot | None:
        try:
            document = self._client.fetch()
            sample = parse_document(document, self._names)
            sampled_unix_s = document.get("sampled_unix_s")
            if isinstance(sampled_unix_s, bool) or not isinstance(sampled_unix_s, int | float):
                raise OracleError("sampled_unix_s: a number was expected")
        except (OracleUnavailableError, OracleError) as problem:
            self.problem = str(problem)
            return None
        self.problem = ""
        return AltoSnapshot(float(sampled_unix_s), sample.utilisation)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; 2 with one line on stderr when it cannot start."""
    parser = argparse.ArgumentParser(prog="alto_gateway", description="An ALTO server beside an oracle.")
    parser.add_argument("--config", required=True, metavar="FILE", help="the controller's configuration, JSON")
    parser.add_argument("--port", required=True, type=int, help="TCP port on 127.0.0.1")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    config = load_config(options.config)
    fabric = build_fattree(config.fabric)
    source = OracleSource(fabric, Path(config.oracle_socket))
    try:
        with suppress(KeyboardInterrupt):
            serve_alto(fabric, source, options.port, every_s=config.poll_s)
    except (OSError, ValueError) as problem:
        print(f"alto_port: {options.port}: {problem}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
