"""What `fsd run` put into a work tree, by path: of which step it is. A note of this user's.

It answers what files of the work tree are no code, and what of them one step may read of another. Lost, outputs that
Git is told to ignore are not known as such, so that a real file among them is read unseen; links are found all the
same.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from fsd.durable import replace_file
from fsd.ids import content_id


def read_outputs(state: Path, top: Path) -> dict[str, str]:
    """Step by path from the top; {} where nothing is known. Blocks."""
    try:
        held = json.loads(_note(state, top).read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(held, dict) or not all(isinstance(step, str) for step in held.values()):
        return {}
    return held


def add_outputs(state: Path, top: Path, paths: Iterable[str], step: str) -> None:
    """Note that some paths are a step's. Blocks. Of two who write at once one may be forgotten until it runs again."""
    known = read_outputs(state, top)
    added: Mapping[str, str] = {**known, **dict.fromkeys(paths, step)}
    # What is gone from the work tree is no output any more.
    kept = {path: step for path, step in added.items() if path in paths or os.path.lexists(top / path)}
    if kept == known:
        return
    path = _note(state, top)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        own = path.with_suffix(f".{os.getpid()}")
        replace_file(own, json.dumps(kept).encode())
        own.rename(path)


def _note(state: Path, top: Path) -> Path:
    return state / "outputs" / f"{content_id(os.fsencode(top)).hex()[:16]}.json"
