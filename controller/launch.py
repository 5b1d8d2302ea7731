"""Start the controller: `python -m controller.launch [--config FILE] [--port 6653] [--address 127.0.0.1] ...`.

Checks the configuration and the ports before the OpenFlow manager takes over the process: an error is one line and exit
code 2. SIGTERM and SIGINT end it cleanly and remove the oracle's socket.
"""

from __future__ import annotations

import argparse
import errno
import os
import signal
import socket
import sys
from collections.abc import Sequence
from importlib import import_module
from types import FrameType

from controller.config import ENVIRONMENT_VARIABLE as CONFIG_VARIABLE
from controller.config import ConfigError, load_config
from controller.driver import DRIVERS, DriverError, chosen_driver, prepare
from controller.driver import ENVIRONMENT_VARIABLE as DRIVER_VARIABLE
from controller.oracle_socket import OracleSocketError

ADDRESS = "127.0.0.1"
DEFAULT_PORT = 6653
"""OpenFlow's registered port (IANA)."""

APPS = ("controller.forwarding", "controller.telemetry")
LOG_LEVEL_WARNING = "30"
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class LaunchError(RuntimeError):
    """The controller cannot start; the message is one line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the controller until a signal; 2 when it cannot start, with one line on stderr."""
    options = _parser().parse_args(arguments)
    try:
        driver = options.openflow or chosen_driver()
        config_path = options.config or os.environ.get(CONFIG_VARIABLE) or None
        metrics_port = load_config(config_path).prometheus_port
        check_port(options.port, options.address)
        if metrics_port == options.port:
            raise LaunchError(f"prometheus_port: {metrics_port} is the OpenFlow port; choose another")
        if metrics_port is not None:
            check_port(metrics_port)
        os.environ[DRIVER_VARIABLE] = driver
        if config_path is not None:
            os.environ[CONFIG_VARIABLE] = config_path
        run_manager(driver, options.port, options.address)
    except (ConfigError, DriverError, LaunchError, OracleSocketError) as problem:
        print(f"controller: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 0  # a signal arrived before the manager had started to wait
    return 0


def check_port(port: int, address: str = ADDRESS) -> None:
    """LaunchError unless a listener can be bound to the port of an address of this machine now.

    Required for correctness: eventlet listens with SO_REUSEPORT, so a second controller of the same user would share
    the port with the first, and each would get some of the switches.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # ignore connections of an earlier controller
        try:
            probe.bind((address, port))
        except OSError as problem:
            what = "is in use" if problem.errno == errno.EADDRINUSE else "cannot be bound"
            raise LaunchError(f"port {port} on {address} {what} ({problem.strerror})") from problem


def run_manager(driver: str, port: int, address: str) -> None:
    """Run the driver's own manager, as its command line does; returns after SIGINT or SIGTERM."""
    os.environ.setdefault("EVENTLET_NO_GREENDNS", "yes")  # no host name is looked up here
    prepare(driver)
    import_module("eventlet").monkey_patch()  # the manager does it in two steps and warns in between
    end_on_signals()
    manager = import_module(f"{driver}.cmd.manager")
    manager.main(
        args=[
            *("--ofp-listen-host", address),
            *("--ofp-tcp-listen-port", str(port)),
            *("--default-log-level", LOG_LEVEL_WARNING),
            *APPS,
        ],
        prog="controller",
    )


def end_on_signals() -> None:
    """Make SIGINT and SIGTERM reach the caller, which becomes the manager's main green thread, as KeyboardInterrupt.

    Python raises it in the current green thread. In another green thread the frameworks' own `except` would discard it
    and the process would continue, so it is passed to the main one. A second signal ends the process at once.
    """
    hub = import_module("eventlet.hubs").get_hub()
    current = import_module("greenlet").getcurrent
    main_thread = current()

    def end(_signal: int, _frame: FrameType | None) -> None:
        for number in ENDING_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        if current() in (main_thread, hub.greenlet):
            raise KeyboardInterrupt
        hub.schedule_call_global(0, main_thread.throw, KeyboardInterrupt)

    for number in ENDING_SIGNALS:
        signal.signal(number, end)


def _port(text: str) -> int:
    port = int(text)
    if not 0 < port < 65536:
        raise ValueError(text)
    return port


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="controller", description="The fabric's OpenFlow controller and oracle.")
    parser.add_argument("--config", metavar="FILE", help=f"JSON configuration (default: ${CONFIG_VARIABLE})")
    parser.add_argument("--port", type=_port, default=DEFAULT_PORT, help="OpenFlow port (default: 6653)")
    parser.add_argument("--address", default=ADDRESS, help="address to listen on for switches (default: 127.0.0.1)")
    parser.add_argument("--openflow", choices=DRIVERS, help="driver (default: $NETKV_OPENFLOW, else ryu)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
