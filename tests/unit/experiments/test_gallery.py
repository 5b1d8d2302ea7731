"""The gallery: every specification runs and is the regime that its page says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from experiments.planning.gallery import REGIMES, SPECS, draw, look_at
from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "how-to" / "gallery.md"
FEW = 120


@pytest.fixture(autouse=True)
def in_the_projects_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A specification names its trace from there."""
    monkeypatch.chdir(ROOT)


def test_the_gallery_is_the_folder_and_the_page_shows_each() -> None:
    assert sorted(path.stem for path in SPECS.glob("*.yaml")) == sorted(REGIMES)
    page = PAGE.read_text()
    assert sorted(set(re.findall(r"img/gallery-([\w-]+)\.png", page))) == sorted(REGIMES)
    assert sorted(set(re.findall(r"specs/([\w-]+)\.yaml\)", page))) == sorted(REGIMES)


@pytest.mark.parametrize("name", REGIMES)
def test_every_specification_runs_and_all_its_time_is_told(name: str) -> None:
    regime = look_at(SPECS / f"{name}.yaml", 30)
    assert len(regime.steps_ms) == 4
    for steps_ms in regime.steps_ms.values():
        assert all(ms >= -1e-9 for ms in steps_ms.values())
        assert steps_ms["prefill_ms"] > 0
    assert regime.utilisation.shape[0] == sum(count for _, count in regime.groups)
    assert regime.utilisation.max() > 0.1


def test_the_papers_links_carry_the_same_all_the_time() -> None:
    regime, moving = (look_at(SPECS / f"{name}.yaml", FEW) for name in ("paper", "moving-hot-spots"))
    spread, other = (float(np.median(one.utilisation.std(axis=1))) for one in (regime, moving))
    assert spread < other / 2


def test_in_a_moving_hot_spot_telemetry_shortens_transfers() -> None:
    steps_ms = look_at(SPECS / "moving-hot-spots.yaml").steps_ms
    assert steps_ms["netkv_full"]["kv_transfer_ms"] < 0.9 * steps_ms["netkv_static"]["kv_transfer_ms"]


def test_where_decode_binds_requests_wait_longer_for_it_than_for_their_kv() -> None:
    for steps_ms in look_at(SPECS / "decode-bound.yaml").steps_ms.values():
        assert steps_ms["admission_ms"] > steps_ms["kv_transfer_ms"]


def test_incast_fills_single_servers_and_no_link_above() -> None:
    regime = look_at(SPECS / "incast.yaml", FEW)
    fullest = regime.utilisation[-regime.groups[-1][1] :].max(axis=1)
    assert (fullest > 0.95).sum() >= 2


def test_a_small_models_transfers_are_short() -> None:
    for steps_ms in look_at(SPECS / "small-model.yaml", FEW).steps_ms.values():
        assert steps_ms["kv_transfer_ms"] < 0.2 * sum(steps_ms.values())


def test_turns_of_the_sample_trace_share_their_prefix() -> None:
    from workloads import report_on_trace

    report = report_on_trace(SPECS / "sample-trace.jsonl")
    assert report.requests == 240
    assert report.hit_share > 0.3
    assert not report.warnings


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    png = draw(SPECS / "your-trace.yaml", tmp_path)
    assert png == tmp_path / "gallery-your-trace.png"
    assert png.read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == [png.name]
