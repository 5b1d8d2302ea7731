"""Every target by its name."""

from __future__ import annotations

from tests.support.fuzzing.files import FILE_TARGETS
from tests.support.fuzzing.folders import FOLDER_TARGETS
from tests.support.fuzzing.streams import STREAM_TARGETS

TARGETS = {target.name: target for target in (*FILE_TARGETS, *STREAM_TARGETS, *FOLDER_TARGETS)}
