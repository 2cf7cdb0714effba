"""Telling a run (`fsd run`) of what its command does and the mount does not see: reading a store past it.

Whoever opens a store within a run appends a line to a file of the run's, which lies beside the one to report to. Then
the run knows that not all is known which was read, and is never taken for another one. Cheap to import.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

REPORT_VARIABLE = "FSD_RUN_REPORT"
"""By which a command finds the file to report to (`fsd.runs.reporting`)."""

TOLD_FILE = "nested.jsonl"
"""Beside it: what is told by fsd itself."""

UNSEEN = "unseen"
"""The member of a line that says who read."""


def tell(variables: Mapping[str, str], line: Mapping[str, object]) -> None:
    """Append a line for the run around this process; nothing where there is none. One write. Blocks."""
    path = variables.get(REPORT_VARIABLE)
    if not path:
        return
    descriptor = os.open(os.path.join(os.path.dirname(path), TOLD_FILE), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, (json.dumps(line) + "\n").encode())
    finally:
        os.close(descriptor)


def tell_unseen(variables: Mapping[str, str], who: str) -> None:
    """`who` is about to read a store past the mount: `fsd cat`, say."""
    tell(variables, {UNSEEN: who})
