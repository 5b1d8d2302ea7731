"""A worker gives up root and what it could gain, and everything that it needs goes on working."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.workers_driver import Worker
from workers.privileges import CAP_NET_ADMIN

PACE_BPS = 80e6


def status_of(worker: Worker) -> dict[str, str]:
    text = Path(f"/proc/{worker.process.pid}/status").read_text()
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


@pytest.mark.parametrize("role", ["prefill", "decode", "background"])
def test_a_worker_is_nobody_special(tmp_path: Path, role: str) -> None:
    with Worker(tmp_path, role, "h0") as worker:
        status = status_of(worker)
        assert "0" not in status["Uid"].split() + status["Gid"].split()
        assert status["NoNewPrivs"] == "1"
        assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
        assert worker.quit() == 0


def test_one_capability_is_kept_where_a_congestion_control_asks_for_it(tmp_path: Path) -> None:
    allowed = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control").read_text().split()
    available = Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split()
    for name in available:
        with Worker(tmp_path, "prefill", f"h-{name}", "--congestion-control", name) as worker:
            if worker.first["event"] == "fatal":
                assert name not in allowed  # without root
                continue
            wanted = 0 if name in allowed else 1 << CAP_NET_ADMIN
            assert int(status_of(worker)["CapEff"], 16) == wanted


def test_a_transfer_is_paced_from_its_own_port_as_before(tmp_path: Path) -> None:
    options = (
        "--congestion-control",
        "reno",
        "--pace-bps",
        str(PACE_BPS),
        "--address",
        "127.0.0.1",
        "--port-seed",
        "1",
    )
    with Worker(tmp_path, "decode", "d0") as decode, Worker(tmp_path, "prefill", "p0", *options) as prefill:
        moved = {"request_id": 1, "bytes": 4_000_000, "stripes": 1}
        decode.tell("expect", **moved, context_tokens=10, output_tokens=1)
        prefill.tell("transfer", **moved, address=list(decode.address), deadline_s=30.0)
        done = prefill.wait_for("transferred")
        assert decode.wait_for("received")["bytes"] == 4_000_000
        assert all(port >= 16_384 for port in done["source_ports"])
        # 0.4 s at the pace; the first ten segments, of 64 KB on loopback, are not paced.
        assert done["at_s"] - done["started_s"] > 0.2
