"""By what a command came to the names that it looked up in the mount: a pin, an output, or a text that names it.

A text is `<mountpoint>/<repository>/<name>`, or its end from the mountpoint's last name on, since a path may be written
relative or be put together: in a word of the command, a param, a variable or a file of the code. All of these are
compared before a run is taken for the same, so a name that stands there will stand there again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from fsd.format.inputs import Inputs
from fsd.format.run import RunPin, RunSource
from fsd.limits import MIB
from fsd.runs.inputs import Name, names_of

MAX_FILE_BYTES = 4 * MIB
"""Of a file of code that is searched. What is larger is data."""

MAX_BYTES = 64 * MIB
"""Of all of them."""


def find_sources(
    inputs: Inputs, pins: Iterable[RunPin], mountpoints: Sequence[str], texts: Iterable[str], code: Iterable[Path]
) -> tuple[RunSource, ...]:
    """The sources of what was looked up. Where a name has several, all of them: each may come to mean something else.

    Blocks: files of the code are read, if there is anything to look for.
    """
    wanted = set(names_of(inputs))
    if not wanted:
        return ()
    found = {
        RunSource(*name, pin.link)
        for pin in pins
        for name in ((pin.repository, pin.revision), (pin.repository, ""))
        if name in wanted
    }
    pattern = _pattern(mountpoints)
    for data in (*(os.fsencode(text) for text in texts), *_read(code)):
        found.update(RunSource(*name, "") for name in _named_in(data, pattern) if name in wanted)
    return tuple(sorted(found))


def _pattern(mountpoints: Sequence[str]) -> re.Pattern[bytes]:
    ends = {os.path.basename(place) for place in mountpoints} - {""}
    one_of = b"|".join(re.escape(os.fsencode(end)) for end in sorted(ends)) or b"(?!)"
    return re.compile(rb"(?<![\w.-])(?:" + one_of + rb")/+([\w.-]+)(?:/+([\w.@+:-]+))?", re.ASCII)


def _named_in(data: bytes, pattern: re.Pattern[bytes]) -> Iterator[Name]:
    for match in pattern.finditer(data):
        repository, name = (part.decode("ascii") for part in match.groups(default=b""))
        yield repository, ""
        yield repository, name
        # A sentence may end there.
        yield repository, name.rstrip(".:")
        yield repository.rstrip("."), ""


def _read(code: Iterable[Path]) -> Iterator[bytes]:
    left = MAX_BYTES
    for path in code:
        try:
            with path.open("rb") as file:
                data = file.read(min(MAX_FILE_BYTES, left))
        except OSError:  # gone meanwhile, or no file
            continue
        left -= len(data)
        yield data
