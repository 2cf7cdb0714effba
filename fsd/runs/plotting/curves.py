"""Learning curves: how a run's metrics went from step to step, from the files that are kept with it.

reported.jsonl      what `fsd.log_metric` said
curves/**/*.tsv     DVCLive's: a step and a value in each row
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fsd.checkout.placed import PlacedContents
from fsd.checkout.stored import StoredContents
from fsd.format.model import Entry, Kind
from fsd.limits import MIB
from fsd.repo.repository import Repositories
from fsd.repo.runs import Run
from fsd.repo.tree import TreeView
from fsd.runs.metrics import CURVES
from fsd.runs.record import REPORT
from fsd.tasks import gather
from fsd.vfs.pieces import Pieces

MAX_FILE_BYTES = 16 * MIB
"""A curve's file of more is left out."""

MAX_POINTS = 1000
"""Of a longer curve, so many are kept, evenly."""

_CURVES = CURVES.encode()


@dataclass(frozen=True, slots=True)
class Curve:
    """A metric of a run over its steps. A value may be NaN, or infinite."""

    run: str
    metric: str
    steps: tuple[float, ...]
    values: tuple[float, ...]


async def read_curves(repositories: Repositories, runs: Iterable[Run]) -> list[Curve]:
    """The curves of some runs. Raises CorruptDataError, and what a store raises."""
    replaced = await repositories.runs.replaced()

    async def read(run: Run) -> list[Curve]:
        files = None if run.end is None else run.end.files
        commit = None if files is None else replaced.now(files.commit)
        return [] if commit is None else await _curves_in(repositories, run.start.name.run, commit)

    found = await gather(read, list(runs), tasks=repositories.limits.fetch_requests)
    return [curve for curves in found for curve in curves]


async def _curves_in(repositories: Repositories, run: str, commit: bytes) -> list[Curve]:
    tree = await repositories.tree(commit)
    found: dict[str, Curve] = {}
    async for listed in tree.list_below():
        for entry in map(listed.page.entry, listed.positions):
            if entry.kind != Kind.FILE or entry.size > MAX_FILE_BYTES:
                continue
            if entry.directory.split(b"/")[0] == _CURVES and entry.name.endswith(b".tsv"):
                name = entry.path.removeprefix(_CURVES + b"/").removesuffix(b".tsv").decode(errors="replace")
                metric = name.replace("/", ".")
                found.setdefault(metric, parse_tsv(run, metric, await _content(repositories, tree, entry)))
            elif entry.path == REPORT.encode():
                found |= {each.metric: each for each in parse_report(run, await _content(repositories, tree, entry))}
    return [curve for curve in found.values() if len(curve.steps) > 1]


async def _content(repositories: Repositories, tree: TreeView, entry: Entry) -> bytes:
    contents = PlacedContents(StoredContents(repositories), tree, repositories.objects)
    pieces = Pieces(entry, repositories.objects)
    return b"".join(await contents.read(entry, pieces, 0, entry.size)) if entry.size else b""


def parse_tsv(run: str, metric: str, data: bytes) -> Curve:
    """A curve of DVCLive's; rows that are none are left out."""
    lines = [line.split("\t") for line in data.decode(errors="replace").splitlines() if line]
    headings = lines[0] if lines else []
    at = headings.index("step") if "step" in headings else None
    points = []
    for number, row in enumerate(lines[1:]):
        try:
            points.append((float(row[at]) if at is not None else float(number), float(row[-1])))
        except (ValueError, IndexError):
            continue
    return _curve(run, metric, points)


def parse_report(run: str, data: bytes) -> list[Curve]:
    """The curves that a program reported; lines that are none are left out. Where no step is said, they are counted."""
    points: dict[str, list[tuple[float, float]]] = {}
    for line in data.splitlines():
        try:
            said = json.loads(line)
            metric, value = str(said["metric"]), float(said["value"])
            here = points.setdefault(metric, [])
            here.append((float(said.get("step", len(here))), value))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return [_curve(run, metric, each) for metric, each in points.items()]


def _curve(run: str, metric: str, points: Sequence[tuple[float, float]]) -> Curve:
    points = sorted(points, key=lambda point: point[0])
    if len(points) > MAX_POINTS:
        last = len(points) - 1
        points = [points[round(number * last / (MAX_POINTS - 1))] for number in range(MAX_POINTS)]
    return Curve(run, metric, tuple(step for step, _ in points), tuple(value for _, value in points))
