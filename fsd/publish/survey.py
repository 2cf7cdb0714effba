"""Counting a folder ahead, so that a first commit can say how far it is: what is read knows only what it has seen."""

from __future__ import annotations

from itertools import islice

import trio

from fsd.errors import FsdError
from fsd.publish.progress import Progress
from fsd.publish.source import SourceFolder, sizes_of
from fsd.publish.walk import walk

_RUNS_AT_ONCE = 64


async def survey(source: SourceFolder, progress: Progress) -> None:
    """Tell `progress` what is in the folder. What is wrong with it the walk itself will say."""
    runs = walk(source)

    def count() -> tuple[int, int, int]:
        seen = list(islice(runs, _RUNS_AT_ONCE))
        return len(seen), sum(len(run.names) for run in seen), sum(sizes_of(run.statuses) for run in seen)

    entries = size = 0
    try:
        while True:
            seen, more_entries, more_bytes = await trio.to_thread.run_sync(count)
            if not seen:
                break
            entries += more_entries
            size += more_bytes
    except FsdError:
        return
    finally:
        runs.close()
    progress.expect(entries, size)
