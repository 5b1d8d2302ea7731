"""Calibration blobs: the time that several take together, what late events of earlier ones do, and failure."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from testbed.calibration import CALIBRATION_ID, FAILED, BlobSender, Delivered


class FakeUp:
    def address(self, instance: int) -> str:
        return f"10.0.0.{instance}"


class Fabric:
    """Answers every transfer at once: the blob of pair k takes from k to `ends_s[k]`; of a refused one it says so."""

    def __init__(self, *ends_s: float) -> None:
        self.ends_s = ends_s
        self.told: list[tuple[str, int, dict[str, Any]]] = []
        self.blobs = BlobSender(FakeUp(), 4, self.tell)  # type: ignore[arg-type]

    def tell(self, role: str, instance: int, command: dict[str, Any]) -> None:
        self.told.append((role, instance, command))
        if command["do"] != "transfer":
            return
        request_id = command["request_id"]
        number = (request_id - CALIBRATION_ID) % len(self.ends_s)
        if math.isinf(self.ends_s[number]):
            self.hear(request_id, "transfer_failed", error="refused")
            return
        self.hear(request_id, "received", at_s=self.ends_s[number])
        self.hear(request_id, "transferred", started_s=float(number), least_round_trip_s=0.01 * (number + 1))
        self.hear(request_id, "finished")

    def hear(self, request_id: int, event: str, **fields: Any) -> None:
        self.blobs.on_event({"event": event, "request_id": request_id, **fields})

    def send(self, pairs: int) -> Delivered:
        return asyncio.run(self.blobs.send([(k, k + 8) for k in range(pairs)], 1000))


def test_blobs_sent_together_take_from_the_first_start_to_the_last_byte() -> None:
    fabric = Fabric(5.0, 3.0)
    assert fabric.send(2) == (5.0, 0.01)
    addressed = [(role, instance, command.get("address")) for role, instance, command in fabric.told]
    assert addressed[:2] == [("decode", 8, None), ("prefill", 0, ["10.0.0.8", 7001])]


def test_a_blob_that_fails_makes_the_time_infinite() -> None:
    assert Fabric(5.0, math.inf).send(2) == FAILED


def test_every_blob_is_a_request_of_its_own_and_earlier_ones_do_not_matter() -> None:
    fabric = Fabric(2.0)
    assert fabric.send(1) == (2.0, 0.01)
    fabric.hear(CALIBRATION_ID, "received", at_s=99.0)
    assert fabric.send(1) == (2.0, 0.01)
    ids = [command["request_id"] for _, _, command in fabric.told if command["do"] == "transfer"]
    assert ids == [CALIBRATION_ID, CALIBRATION_ID + 1]
