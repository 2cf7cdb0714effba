"""`/.runs`: the runs of the store, each as a directory of files, so that what came of a run is a path.

    .runs/<16 hex digits>/              a run, whichever repository it is kept with
    .runs/<4 or more of them>           a symlink to the only run whose id begins so; not listed
        run.json                        all that is recorded, as `fsd exp show --json` prints it
        log, params.yaml, metrics.json, curves/
                                        its files, once it has ended: those of versions, by their content
        code                            a symlink to the version directory with its code
        outputs                         the same with what it made
        inputs/<repository>@<name>      symlinks to what it read: to the commits that these names meant then

What lies here is immutable once the run has ended. Until then, and where it is a symlink (a purge may replace what it
leads to), the kernel asks again after `limits.entry_timeout_s`. Which runs there are is listed as often, and no more.

Records are read when something in a run's directory is asked for, not for a listing of all; the last are kept.

In a run's view the observation is told which runs were asked for, and of its files and of what symlinks lead to as if
they had been looked up where they lead: by that a purge shows. A run that has not ended could not be compared.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import trio

from fsd.errors import NotFoundError, StoreUnreachableError, UsageError
from fsd.format.inputs import VersionInputs, digest_of_names
from fsd.format.keys import is_builtin_subset
from fsd.format.limits import MAX_NAME_BYTES
from fsd.format.run import RUN_HEX_DIGITS, RunName
from fsd.limits import Limits
from fsd.repo.objects import MissingObjectError
from fsd.repo.repository import Repositories
from fsd.repo.runs import Replaced, Run
from fsd.vfs.attributes import Attributes, Listing, Missing
from fsd.vfs.nodes import (
    LinkNode,
    Node,
    Nodes,
    RunFileNode,
    RunInputsNode,
    RunNode,
    RunsNode,
    Version,
    View,
)
from fsd.vfs.trees import Directory, Trees

RUNS = ".runs"
"""At the top of the mount; not listed there."""

DESCRIPTION = b"run.json"
CODE = b"code"
OUTPUTS = b"outputs"
INPUTS = b"inputs"

MAX_RECORDS = 256
"""Records of runs that are kept: 20 KB each, most of it packages that were installed."""

_OWN_NAMES = (CODE, INPUTS, OUTPUTS, DESCRIPTION)
"""What a run's directory has besides its files, in the order of a listing; the files have the numbers after these."""

_UNKNOWN_INO = 1 << 59
"""What a listing that teaches nothing shows from here on as numbers of nodes that have none."""

_ID = re.compile(rb"[0-9a-f]{4,%d}" % RUN_HEX_DIGITS)

DescribeRun = Callable[[Run], Mapping[str, Any]]
"""Everything about a run: JSON."""

T = TypeVar("T")


class _Lead(NamedTuple):
    """Where a symlink leads: to a version, as it was named when it was read, or made."""

    repository: str
    revision: str
    commit: bytes


@dataclass(frozen=True, slots=True)
class _Record:
    """What is shown of a run."""

    name: RunName
    has_ended: bool
    time_us: int
    description: bytes
    made: Mapping[bytes, _Lead]
    """`code` and `outputs`."""
    inputs: Mapping[bytes, _Lead]
    files: bytes | None
    """The commit with its files."""


class _Known:
    """Which runs there are, at one moment."""

    def __init__(self, names: Mapping[RunName, bool], numbers: dict[str, int], problem: str = "") -> None:
        """`names` says of each whether it has ended. `numbers` are those of all that were ever seen; they grow."""
        self._names = {name.run: (name, has_ended) for name, has_ended in sorted(names.items(), reverse=True)}
        self.ids = sorted(self._names)
        self._rows = sorted((numbers.setdefault(run, len(numbers) + 1), run) for run in self.ids)
        self.problem = problem
        """Why there may be others."""

    def get(self, run: str) -> tuple[RunName, bool] | None:
        """The run of a whole id, and whether it has ended."""
        return self._names.get(run)

    def only(self, prefix: str) -> str | None:
        """The only id that begins so."""
        start = bisect_left(self.ids, prefix)
        found = [run for run in self.ids[start : start + 2] if run.startswith(prefix)]
        return found[0] if len(found) == 1 else None

    def after(self, number: int) -> Iterator[tuple[int, RunName]]:
        """In the order of a listing, those after a number, each with its own."""
        start = bisect_right(self._rows, number, key=lambda row: row[0])
        return ((number, self._names[run][0]) for number, run in self._rows[start:])


class _Answer(Generic[T]):
    """What the store said, asked for again when it is too old; where it is out of reach, the last there is."""

    def __init__(self, ask: Callable[[], Awaitable[T]]) -> None:
        self._ask = ask
        self._asking = trio.Lock()
        self._known: tuple[float, T] | None = None

    async def get(self, lifetime_s: float) -> T:
        """One that is at most so old. Raises what asking raises, where nothing is known."""
        async with self._asking:
            now_s = trio.current_time()
            if self._known is None or now_s - self._known[0] >= lifetime_s:
                try:
                    self._known = now_s, await self._ask()
                except StoreUnreachableError:
                    if self._known is None:
                        raise
                    self._known = trio.current_time(), self._known[1]
            return self._known[1]


class RunsFolder:
    """See the module. Raises CorruptDataError and StoreUnreachableError where an answer cannot be had."""

    def __init__(
        self,
        repositories: Repositories,
        trees: Trees,
        nodes: Nodes,
        limits: Limits,
        describe: DescribeRun,
        say_repositories: Callable[[Sequence[str]], None],
    ) -> None:
        """`say_repositories` is told which repositories have runs, whenever that was asked for."""
        self._repositories = repositories
        self._trees = trees
        self._nodes = nodes
        self._limits = limits
        self._describe = describe
        self._say_repositories = say_repositories
        self._numbers: dict[str, int] = {}
        self._known = _Answer(self._ask_known)
        self._replaced: _Answer[Replaced] = _Answer(repositories.runs.replaced)
        self._records: OrderedDict[RunName, _Record] = OrderedDict()
        """Of runs that have ended."""

    def change_limits(self, limits: Limits) -> None:
        """Heed these from now on: how long the kernel may believe a name."""
        self._limits = limits

    # --- lookups

    async def lookup(self, parent: Node, name: bytes) -> Attributes | Missing | None:
        """A name in one of these directories; None if `parent` is none of them."""
        if isinstance(parent, RunsNode):
            return await self._lookup_run(name, parent.view)
        if not isinstance(parent, RunNode):
            return None
        record = await self._record(parent)
        if record is None:
            return Missing(self._limits.entry_timeout_s)
        leads = record.inputs if isinstance(parent, RunInputsNode) else record.made
        if name in leads:
            return self._named(await self._link(parent, name, leads[name]), self._limits.entry_timeout_s)
        if isinstance(parent, RunInputsNode):
            return Missing(self._lifetime_s(record.has_ended))
        return await self._lookup_part(parent, record, name)

    async def _lookup_run(self, name: bytes, view: View | None) -> Attributes | Missing:
        if not _ID.fullmatch(name):
            return Missing(self._limits.immutable_timeout_s)
        text, short_s = name.decode(), self._limits.entry_timeout_s
        known = await self._known.get(short_s)
        if len(text) < RUN_HEX_DIGITS:
            run = known.only(text)
            _observe_name(view, known, text, run)
            return Missing(short_s) if run is None else self._named(LinkNode(RUNS, text, run), short_s)
        found = known.get(text)
        _observe_name(view, known, text, None if found is None else "")
        if found is None:
            return Missing(short_s)
        run_name, has_ended = found
        return self._named(RunNode(run_name, view), self._lifetime_s(has_ended))

    async def _lookup_part(self, parent: RunNode, record: _Record, name: bytes) -> Attributes | Missing:
        node = _own(parent, record, name)
        if node is not None:
            return self._named(node, self._lifetime_s(record.has_ended))
        files = await self._files(parent, record)
        found = None if files is None else await self._trees.find(files, name)
        return found or Missing(self._lifetime_s(record.has_ended))

    def _named(self, node: Node, timeout_s: float) -> Attributes:
        node = self._nodes.remember(node)
        forever_s = self._limits.immutable_timeout_s
        return Attributes(node.ino, node.mode, node.size, node.mtime_ns, timeout_s, forever_s)

    def _lifetime_s(self, is_fixed: bool) -> float:
        return self._limits.immutable_timeout_s if is_fixed else self._limits.entry_timeout_s

    # --- listings

    async def list(self, directory: Node, start: int) -> Listing | None:
        """Entries after number `start`; None if `directory` is none of these."""
        if isinstance(directory, RunsNode):
            known = await self._known.get(self._limits.entry_timeout_s)
            _observe_listing(directory.view, known)
            runs = ((number, name.run.encode(), RunNode(name, directory.view)) for number, name in known.after(start))
            return self._listing(directory, runs, self._limits.entry_timeout_s)
        if not isinstance(directory, RunNode):
            return None
        record = await self._record(directory)
        if record is None:
            return Listing(iter(()), self._limits.entry_timeout_s)
        if start < len(_OWN_NAMES) or isinstance(directory, RunInputsNode):
            rows = [row for row in await self._own_rows(directory, record) if row[0] > start]
            if rows or isinstance(directory, RunInputsNode):
                return self._listing(directory, rows, self._limits.entry_timeout_s)
        return await self._list_files(directory, record, max(0, start - len(_OWN_NAMES)))

    async def _own_rows(self, directory: RunNode, record: _Record) -> Sequence[tuple[int, bytes, Node]]:
        """What is there besides files."""
        is_inputs = isinstance(directory, RunInputsNode)
        leads = record.inputs if is_inputs else record.made
        rows: list[tuple[int, bytes, Node]] = []
        for number, name in enumerate(sorted(leads) if is_inputs else _OWN_NAMES, 1):
            lead = leads.get(name)
            node = _own(directory, record, name) if lead is None else await self._link(directory, name, lead)
            if node is not None:
                rows.append((number, name, node))
        return rows

    async def _list_files(self, directory: RunNode, record: _Record, start: int) -> Listing:
        files = await self._files(directory, record)
        if files is None:
            return Listing(iter(()), self._limits.entry_timeout_s)
        entries = await self._trees.list(directory.ino, files, start)
        shifted = ((*rest, number + len(_OWN_NAMES)) for *rest, number in entries)
        return Listing(shifted, self._limits.immutable_timeout_s, directory.view is not None)  # type: ignore[arg-type]

    def _listing(self, directory: Node, rows: Iterable[tuple[int, bytes, Node]], timeout_s: float) -> Listing:
        if directory.view is None:
            return Listing(self._entries(rows), timeout_s)
        shown = (
            (name, self._nodes.same(node).ino or _UNKNOWN_INO + number, node.mode, node.size, node.mtime_ns, number)
            for number, name, node in rows
        )
        return Listing(shown, timeout_s, is_shown_only=True)

    def _entries(self, rows: Iterable[tuple[int, bytes, Node]]) -> Iterator[tuple[bytes, int, int, int, int, int]]:
        for number, name, listed in rows:
            node = self._nodes.remember(listed)
            yield name, node.ino, node.mode, node.size, node.mtime_ns, number

    # --- what a run's directory has

    async def _files(self, directory: RunNode, record: _Record) -> Directory | None:
        """Where its files are."""
        if record.files is None:
            return None
        lead = _Lead(record.name.repository, "", record.files)
        label, commit = await self._now(lead)
        _observe_version(directory.view, lead.repository, label, commit)
        return Directory(Version(lead.repository, label, commit, commit, view=directory.view), b"")

    async def _link(self, directory: RunNode, name: bytes, lead: _Lead) -> LinkNode:
        label, commit = await self._now(lead)
        _observe_version(directory.view, lead.repository, label, commit)
        is_input = isinstance(directory, RunInputsNode)
        up, inside = ("../../..", f"{INPUTS.decode()}/") if is_input else ("../..", "")
        return LinkNode(f"{RUNS}/{directory.name.run}", f"{inside}{name.decode()}", f"{up}/{lead.repository}/{label}")

    async def _now(self, lead: _Lead) -> tuple[str, bytes]:
        """The name in its repository of what a version is by now, and the object whose tree it shows. What was purged,
        and has no successor, keeps its name, which leads nowhere."""
        commit = (await self._replaced.get(self._limits.entry_timeout_s)).now(lead.commit) or lead.commit
        subset = lead.revision.partition("+")[2]
        # A named subset is an object of its own, if it is not filtered while it is read.
        is_part = subset and (is_builtin_subset(subset) or not await self._is_subset(commit))
        return f"{commit.hex()}+{subset}" if is_part else commit.hex(), commit

    async def _is_subset(self, commit: bytes) -> bool:
        try:
            return (await self._repositories.commit(commit)).is_subset
        except MissingObjectError:
            return True

    # --- what is known

    async def _ask_known(self) -> _Known:
        try:
            names = await self._repositories.runs.names()
        except UsageError as error:
            # Behind a web server nothing can be listed but refs.
            return _Known({}, self._numbers, error.message)
        self._say_repositories(sorted({name.repository for name in names}))
        return _Known(names, self._numbers)

    async def _record(self, node: RunNode) -> _Record | None:
        """What there is of a run; None if it is gone."""
        record = self._records.get(node.name)
        if record is None:
            try:
                record = self._shown(await self._repositories.runs.read(node.name))
            except NotFoundError:
                return None
            if not record.has_ended:
                if node.view is not None and node.view.observation is not None:
                    node.view.observation.fail(f"it looked at run {node.name.run}, which had not ended")
                return record
            self._records[node.name] = record
            if len(self._records) > MAX_RECORDS:
                self._records.popitem(last=False)
        self._records.move_to_end(node.name)
        return record

    def _shown(self, run: Run) -> _Record:
        start, end = run.start, run.end
        trees = {CODE: start.code, OUTPUTS: None if end is None else end.outputs}
        repository = start.name.repository
        return _Record(
            name=start.name,
            has_ended=end is not None,
            time_us=start.time_us if end is None else end.time_us,
            description=json.dumps(self._describe(run), indent=2).encode() + b"\n",
            made={name: _Lead(repository, "", tree.commit) for name, tree in trees.items() if tree is not None},
            inputs={} if end is None else _by_name(end.inputs.versions),
            files=None if end is None or end.files is None else end.files.commit,
        )


def _own(directory: RunNode, record: _Record, name: bytes) -> Node | None:
    """What is neither a symlink nor one of its files."""
    if name == INPUTS and record.has_ended:
        return RunInputsNode(record.name, directory.view)
    if name != DESCRIPTION:
        return None
    return RunFileNode(record.name, record.description, record.time_us * 1000)


def _by_name(versions: Iterable[VersionInputs]) -> dict[bytes, _Lead]:
    """Each by a name of its own: that which was looked up, with the commit where that is not enough."""
    found: dict[bytes, _Lead] = {}
    for version in versions:
        name = f"{version.repository}@{version.name}"
        if len(name) > MAX_NAME_BYTES or name.encode() in found:
            name = f"{version.repository}@{version.commit.hex()}"
        found[name.encode()] = _Lead(version.repository, version.name, version.commit)
    return found


# --- in a run's view


def _observe_name(view: View | None, known: _Known, name: str, target: str | None) -> None:
    if view is not None and view.observation is not None:
        view.observation.named(RUNS, name, target)
        if known.problem:
            view.observation.fail(known.problem)


def _observe_listing(view: View | None, known: _Known) -> None:
    if view is not None and view.observation is not None:
        view.observation.enumerated(RUNS, digest_of_names((run, False) for run in known.ids))
        if known.problem:
            view.observation.fail(known.problem)


def _observe_version(view: View | None, repository: str, name: str, commit: bytes) -> None:
    if view is not None and view.observation is not None:
        view.observation.named(repository, name, "", commit)
