"""The scheduling priority of a session, and a kernel without session groups."""

from __future__ import annotations

import subprocess
from pathlib import Path

from testbed.scheduling_priority import set_session_priority


def test_a_session_gets_the_nice_value() -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as sleeper:
        try:
            given = set_session_priority(sleeper.pid, 7)
            group = Path(f"/proc/{sleeper.pid}/autogroup")
            assert given == group.exists()
            assert not given or group.read_text().split()[-1] == "7"
        finally:
            sleeper.kill()


def test_a_kernel_without_session_groups_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    assert not set_session_priority(1, -10, proc=tmp_path)


def test_the_value_is_written_for_the_process_that_was_named(tmp_path: Path) -> None:
    (tmp_path / "12").mkdir()
    (tmp_path / "12" / "autogroup").touch()
    assert set_session_priority(12, -10, proc=tmp_path)
    assert (tmp_path / "12" / "autogroup").read_text() == "-10\n"
