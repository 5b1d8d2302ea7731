"""What this machine lacks for a run, and the one command that is the remedy for each lack."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
from pathlib import Path

from experiments.planning.finding import Finding
from experiments.planning.foreign_packages import foreign_packages
from testbed import (
    ENGINE_REMEDY,
    FEATURES,
    LEASE,
    LIBRARIES_REMEDY,
    SANDBOX_REMEDY,
    SETTING,
    EmulationSpec,
    Feature,
    choose_datapath,
    engine_installed,
    engine_problem,
    sandbox_lacks,
)
from topologies import FabricSpec

PROVISION = "./provision.sh"


def examine() -> list[Finding]:
    """Look at everything that the emulated world needs; nothing is changed."""
    lack = sandbox_lacks() if os.geteuid() == 0 else ""
    return [
        _root(),
        *[
            _command(name)
            for name in ("ovs-vswitchd", "ovsdb-server", "ovs-vsctl", "mnexec", "tc", "ethtool", "unshare", "setpriv")
        ],
        *[
            _module(name)
            for name in ("mininet.net", "numpy", "pandas", "pyarrow", "numba", "matplotlib", "scapy", "os_ken")
        ],
        _ryu(),
        _transfer_engine(),
        *foreign_packages(),
        _namespaces(lack),
        _send_buffer(),
        _datapath(),
        *_kernel_features(lack),
        _cores(),
    ]


def _root() -> Finding:
    if os.geteuid() == 0:
        return Finding("root", True, "yes")
    return Finding(
        "root", False, "not root: the emulated world needs its own network namespaces", "sudo .venv/bin/netkv doctor"
    )


def _command(name: str) -> Finding:
    place = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    return Finding(name, place is not None, place or "missing", "" if place else PROVISION)


def _module(name: str) -> Finding:
    try:
        importlib.import_module(name)
    except ImportError as problem:
        return Finding(f"python: {name}", False, str(problem), PROVISION)
    return Finding(f"python: {name}", True, "imports")


def _ryu() -> Finding:
    """Found, not imported: Ryu's manager patches the process that imports it."""
    present = importlib.util.find_spec("ryu") is not None
    return Finding("python: ryu", present, "installed" if present else "missing", "" if present else PROVISION)


def _transfer_engine() -> Finding:
    """An extra: only what is half installed is a lack."""
    name = "python: mooncake"
    if not engine_installed():
        return Finding(name, True, f"absent, needed only for serving.engine=mooncake ({ENGINE_REMEDY})", absent=True)
    problem = engine_problem()
    return Finding(name, not problem, problem or "imports", LIBRARIES_REMEDY if problem else "")


def _namespaces(lack: str) -> Finding:
    missing = [kind for kind in ("net", "pid", "mnt") if not Path(f"/proc/self/ns/{kind}").exists()]
    if missing:
        return Finding("namespaces", False, f"the kernel lacks {', '.join(missing)}", "boot a kernel with namespaces")
    return Finding("namespaces", not lack, lack or "net, pid, mnt", SANDBOX_REMEDY if lack else "")


def _send_buffer() -> Finding:
    value = SETTING.read_text().strip() if SETTING.exists() else "missing"
    held = LEASE.exists()
    return Finding("send buffer", SETTING.exists(), f"{value} bytes, {'lent to a run' if held else 'set for each run'}")


def _datapath() -> Finding:
    ports = FabricSpec().switch_ports
    datapath, reason = choose_datapath(ports)
    return Finding("datapath", True, f"{datapath} for the default fabric, {ports} ports: {reason}")


def _kernel_features(lack: str) -> list[Finding]:
    """What fields of the emulation ask of the kernel: a lack counts where the defaults ask. Only root with namespaces
    can try."""
    if os.geteuid() != 0 or lack:
        return []
    default = EmulationSpec()
    return [_kernel_feature(feature, feature.needed_by(default)) for feature in FEATURES]


def _kernel_feature(feature: Feature, needed: bool) -> Finding:
    if feature.present():
        return Finding(f"kernel: {feature.module}", True, "present")
    if needed:
        return Finding(f"kernel: {feature.module}", False, f"absent: no {feature.field}", f"modprobe {feature.module}")
    return Finding(f"kernel: {feature.module}", True, f"absent, needed only for {feature.field}", absent=True)


def _cores() -> Finding:
    cores = os.cpu_count() or 1
    remedy = "" if cores >= 2 else "give the machine two cores"
    return Finding("cores", cores >= 2, f"{cores} (a 16-instance fabric needs 2)", remedy)
