"""Noting that a folder is just what a commit holds, without reading it: for whoever made it so.

The next commit from the folder then reads only what has changed since, and a merge knows what it was made from.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fsd.publish.delta import is_young
from fsd.publish.scan import UNTRUSTED, ScanKey, ScanWriter
from fsd.publish.source import STATUS, SourceFolder
from fsd.publish.walk import walk


def note_folder(state: Path, key: ScanKey, place: bytes, commit: bytes, *, clock_ns: Callable[[], int]) -> None:
    """Note that the folder of `key`, which still is at `place`, has what `commit` has, all of it. Blocks.

    Nobody else may know the place yet: what somebody changes between its making and now would go unnoticed. Entries so
    young that a change might not show will be read again. Raises OSError, and what walking a folder raises.
    """
    writer = ScanWriter(state / "scans", key, None)
    try:
        with SourceFolder(place) as source:
            for run in walk(source, clock_ns=clock_ns):
                statuses = [run.statuses[at : at + STATUS.size] for at in range(0, len(run.statuses), STATUS.size)]
                trusted = [UNTRUSTED if _is_young(status, run.seen_ns) else status for status in statuses]
                writer.add(run.directory, b"\0".join(run.names), b"".join(trusted))
        writer.finish(commit)
    finally:
        writer.discard()


def _is_young(status: bytes, seen_ns: int) -> bool:
    _, mtime_ns, ctime_ns, _, _ = STATUS.unpack(status)
    return is_young(mtime_ns, ctime_ns, seen_ns)
