"""Where in its file a wrong field is: line and column, and the name that may have been meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.running import SpecError, read_faults, read_spec

SPEC = """\
world: analytic
workload:
  requests: 20
  profile: ragg
"""


def said(place: Path, text: str, changes: dict[str, object] | None = None) -> str:
    place.write_text(text)
    with pytest.raises(SpecError) as refused:
        read_spec(place, changes or {})
    return str(refused.value).removeprefix(f"{place}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SPEC, ":4:3: workload.profile: 'ragg' is not one of"),
        ("policy: netkv_ful\n", ":1:1: policy: 'netkv_ful' is not one of"),
        ("fabric:\n  pods: 2\n  rackz: 2\n", ":3:3: fabric.rackz: no such field"),
        ("fabric: {pods: 2, tor_oversubscription: 0.5}\n", ":1:19: fabric: tor_oversubscription: 0.5 is below 1"),
        (
            "faults:\n  events:\n    - {at_s: 1, kind: telemetry_frozen}\n    - {at_s: -1}\n",
            ":4:8: faults.events.1.at_s",
        ),
        ('{"seed": 1,\n "wrld": "analytic"}\n', ":2:2: wrld: no such field (did you mean world?)"),
        ("a: [\n", ":2:1: not YAML"),
    ],
)
def test_a_wrong_field_is_told_by_line_and_column(tmp_path: Path, text: str, message: str) -> None:
    assert said(tmp_path / "spec.yaml", text).startswith(message)


def test_a_field_that_is_missing_is_told_by_its_section(tmp_path: Path) -> None:
    assert said(tmp_path / "spec.yaml", "seed: 1\nfaults:\n  events:\n    - at_s: 1\n").startswith(
        ":4:7: faults.events.0.kind"
    )


def test_a_file_is_not_blamed_for_a_change(tmp_path: Path) -> None:
    text = SPEC.replace("ragg", "rag")
    assert said(tmp_path / "spec.yaml", text, {"fabric.pods": 2.5}).startswith("fabric.pods: ")
    assert said(tmp_path / "spec.yaml", SPEC, {"seed": 1}).startswith(":4:3: workload.profile: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- {at_s: 1, kind: telemetry_frozen}\n- {at_s: -1, kind: telemetry_frozen}\n", ":2:4: faults.events.1.at_s: "),
        ("faults:\n  - at_s: 1\n    kind: link_dwn\n", ":3:5: faults.events.0.kind: "),
        ("events:\n  - at_s: 1\n    knd: x\n", ":2:5: faults.events.0.kind: "),
    ],
)
def test_a_wrong_plan_of_faults_is_told_by_line_and_column(tmp_path: Path, text: str, message: str) -> None:
    place = tmp_path / "faults.yaml"
    place.write_text(text)
    with pytest.raises(SpecError) as refused:
        read_faults(place)
    assert str(refused.value).startswith(f"{place}{message}")
