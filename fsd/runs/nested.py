"""Runs that a run starts itself: what they made, and what those read that were not run again, is the outer one's too.

An inner `fsd run` appends a line to a file of the outer one's, which lies beside the file to report to. What it reads
is seen by the outer one as well, since its view lies in the outer's; of one that was a HIT nothing was seen, so what
its record says counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import trio

from fsd.errors import NotFoundError
from fsd.format.inputs import Inputs, VersionInputs
from fsd.format.positions import Stretches
from fsd.format.run import RunEnd, RunName
from fsd.ids import parse_id
from fsd.repo.repository import Repositories
from fsd.unseen import TOLD_FILE, UNSEEN, tell

FILE_NAME = TOLD_FILE

_UNREADABLE = "what it says of runs that it started cannot be read"


class _UnseenError(Exception):
    """Somebody read what no view shows."""


class Inner(NamedTuple):
    """What became known of them."""

    made: tuple[bytes, ...] = ()
    """Commits of their outputs."""
    inputs: tuple[Inputs, ...] = ()
    """What those had read that were not run again."""
    problem: str = ""
    """Why that is not all."""


def report(variables: Mapping[str, str], name: RunName, end: RunEnd, *, is_hit: bool) -> None:
    """Tell the outer run of an inner one, if there is an outer one. Blocks."""
    outputs = None if end.outputs is None else end.outputs.commit.hex()
    tell(variables, {"run": list(name), "outputs": outputs, "is_hit": is_hit})


async def read(repositories: Repositories, path: Path) -> Inner:
    """What inner runs said, and what the records say of those that were not run. Raises what a store raises."""
    made: set[bytes] = set()
    hits: set[RunName] = set()
    try:
        for line in await trio.to_thread.run_sync(_lines, path):
            outputs, name = _parse(line)
            made.update(outputs)
            hits.update(name)
    except _UnseenError as error:
        return Inner(problem=str(error))
    except (ValueError, KeyError, TypeError):
        return Inner(problem=_UNREADABLE)
    found = []
    for hit in sorted(hits):
        try:
            end = await repositories.runs.read_end(hit)
        except NotFoundError:
            end = None
        if end is None:
            return Inner(problem=_UNREADABLE)
        made.update(end.made)
        found.append(end.inputs)
    return Inner(tuple(sorted(made)), tuple(found))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except FileNotFoundError:
        return []


def _parse(line: str) -> tuple[list[bytes], list[RunName]]:
    """The outputs, if there are any, and the run, if it was a HIT."""
    said: dict[str, Any] = json.loads(line)
    if UNSEEN in said:
        raise _UnseenError(f"it read the store past the mount, by '{said[UNSEEN]}'")
    outputs = [] if said["outputs"] is None else [parse_id(said["outputs"])]
    return outputs, [RunName(*said["run"])] if said["is_hit"] else []


def merged(inputs: Inputs, inner: Inner) -> Inputs:
    """What a run read, with what its inner ones did."""
    for other in inner.inputs:
        inputs = _union(inputs, other)
    return replace(inputs, problem=inputs.problem or inner.problem)


def _union(one: Inputs, other: Inputs) -> Inputs:
    problem = one.problem or other.problem
    names = {(name.repository, name.name): name for name in other.names}
    listings = {listing.repository: listing for listing in other.listings}
    for name in one.names:
        if names.setdefault((name.repository, name.name), name) != name:
            problem = problem or f"{name.repository}/{name.name} meant something else to a run that it started"
    for listing in one.listings:
        if listings.setdefault(listing.repository, listing) != listing:
            problem = (
                problem or f"the names in {listing.repository or 'the mount'} were others to a run that it started"
            )
    versions = {version[:3]: version for version in other.versions}
    for version in one.versions:
        known = versions.get(version[:3])
        versions[version[:3]] = version if known is None else _both(version, known)
    return Inputs(
        tuple(versions[key] for key in sorted(versions)),
        tuple(names[key] for key in sorted(names)),
        tuple(listings[key] for key in sorted(listings)),
        problem,
    )


def _both(one: VersionInputs, other: VersionInputs) -> VersionInputs:
    return one._replace(
        seen=_joined([*one.seen, *other.seen]),
        listed=_joined([*one.listed, *other.listed]),
        missing=tuple(sorted({*one.missing, *other.missing})),
        is_identified=one.is_identified or other.is_identified,
    )


def _joined(stretches: Iterable[tuple[int, int]]) -> Stretches:
    return tuple(_without_gaps(sorted(stretches)))


def _without_gaps(stretches: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    first, end = stretches[0] if stretches else (0, 0)
    for next_first, next_end in stretches[1:]:
        if next_first > end:
            yield first, end
            first = next_first
        end = max(end, next_end)
    if stretches:
        yield first, end
