"""Pins of a work tree, examined by the daemon that has their store mounted: it has what it takes in memory, and knows
its cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import trio

from fsd.errors import FsdError
from fsd.pins.examine import examine
from fsd.pins.findings import Findings, Question
from fsd.vfs.vfs import Vfs

CACHED_WITHIN_S = 0.1
"""To find out how much of all pins is cached, which takes a look at every chunk. What takes longer is not told: who
wants to know it of a large version asks for that alone."""


async def examine_mounted(vfs: Vfs, questions: Sequence[Question]) -> dict[str, Any]:
    """The findings for each of `questions` as JSON, in `pins`. Raises as `examine`."""
    findings = await examine(vfs.repositories, questions)
    with trio.move_on_after(CACHED_WITHIN_S):
        async with trio.open_nursery() as nursery:
            for position, question in enumerate(questions):
                nursery.start_soon(_measure, vfs, question, findings, position)
    return {"pins": [found.to_json() for found in findings]}


async def _measure(vfs: Vfs, question: Question, findings: list[Findings], position: int) -> None:
    """Add what the cache has; leave it out if that cannot be told."""
    target = question.target
    if findings[position].commit is None or not target.is_fixed:
        return
    path = target.text("").encode(errors="surrogateescape")
    try:
        seen = await vfs.holdings.coverage(path, lambda _: None)
    except FsdError:
        return
    findings[position] = replace(findings[position], size_bytes=seen["bytes"], cached_bytes=seen["cached_bytes"])
