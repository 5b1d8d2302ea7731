"""NVIDIA Dynamo's own router beside real packets: it decides every request, and its books are told of every block."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from serving import UNREPEATABLE
from tests.support.live.small_fabric import ON_A_SMALL_FABRIC

pytestmark = pytest.mark.live

NETKV = Path(sys.executable).with_name("netkv")
DEADLINE_S = 150
LIKE_OURS = """
from routers import DynamoRouter

class Counted(DynamoRouter):
    # The real router, whose count is held against its own requests at every decision.
    def __init__(self):
        super().__init__(output_blocks=1.0)
        self.blocks = {}
        self.reported = 0

    def select(self, request, candidates, view):
        counted = {}
        for at, blocks in self.blocks.values():
            counted[at] = counted.get(at, 0) + blocks
        found = {at: blocks for at, blocks in self.decode_blocks().items() if blocks}
        assert found == {at: blocks for at, blocks in counted.items() if blocks}, (found, counted)
        return super().select(request, candidates, view)

    def placed(self, request, decode_id):
        super().placed(request, decode_id)
        self.blocks[request.request_id] = [decode_id, request.input_length // request.block_tokens]

    def _add_output_block(self, request, decode_id):
        super()._add_output_block(request, decode_id)
        self.blocks[request.request_id][1] += 1
        self.reported += 1

    def finished(self, request, decode_id):
        super().finished(request, decode_id)
        del self.blocks[request.request_id]
        assert self.blocks or self.reported  # the last to leave: answers had begun blocks by then
"""


def test_it_decides_every_request_of_an_emulated_run(live_machine: None, tmp_path: Path) -> None:
    (tmp_path / "like_ours.py").write_text(LIKE_OURS)
    small = ("--requests", "16", "--set", "workload.max_input_tokens=4096", "--set", "workload.max_output_tokens=200")
    done = subprocess.run(
        [str(NETKV), "run", "--policy", "like_ours:Counted", *ON_A_SMALL_FABRIC, *small, "--out", "run"],
        cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr  # 1: complete, but the machine was too slow to trust it
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert "policy_error" not in manifest["evidence"], manifest["verdict_reasons"]
    assert manifest["evidence"][UNREPEATABLE].startswith("Dynamo's router")
    requests = pd.read_parquet(tmp_path / "run" / "requests.parquet")
    assert (requests["status"] == "completed").all(), requests["error"].unique()
