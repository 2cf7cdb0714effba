"""Reading files: from a range of a file to chunks, and from the order of reads to read-ahead.

Owns, for each file of several chunks that is being read, its chunk list and its runs (`window`), in an LRU bounded by
files and by chunks. A file of one chunk has no state, and if the cache holds it needs no page: its chunk is named by
its content, which is its identity. A chunk that is not where its placement says is looked for once more, where the
store has it now (`_fetch`); other errors leave as they come.

Concurrency: everything between two awaits is atomic. No lock is held across an await: readers of one file wait side by
side, and it is the cache that fetches a chunk once. A state may be dropped while somebody reads through it; he goes on
with what he has.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import trio

from fsd.cache.cache import Cache
from fsd.cache.fetcher import Fetch
from fsd.errors import FsdError, located
from fsd.format.limits import MAX_CHUNK_BYTES
from fsd.format.model import Entry, PlacedChunk
from fsd.ids import Buffer
from fsd.limits import Limits
from fsd.repo.packs import MisplacedError
from fsd.vfs.lookout import Lookout
from fsd.vfs.pieces import Pieces, Recipes
from fsd.vfs.procession import Order, Processions
from fsd.vfs.window import Run, Runs, Span

AGAIN_S = 1.0
"""When a read-ahead fails, the kernel asks once more, for one page, before it tells the program. That comes at once."""

MAX_LATE = 1024
"""Files of which it is remembered that a read ran out of time; the oldest go first."""


class FileRange(NamedTuple):
    """Some bytes of a file."""

    ino: int
    identity: bytes
    """What the file is known by (`Page.identity`): the id of its chunk if it has just one."""
    size: int
    """Of the whole file."""
    start: int
    end: int
    """After the last byte; at most `size`, and more than `start`."""

    @property
    def length(self) -> int:
        """Bytes."""
        return self.end - self.start


class _State:
    """A file of several chunks that is being read."""

    __slots__ = ("has_neighbours", "identity", "pieces", "runs")

    def __init__(self, identity: bytes, pieces: Pieces, limits: Limits) -> None:
        self.identity = identity
        """By which it is known that the number has not come to mean another file."""
        self.pieces = pieces
        self.runs = Runs(limits)
        self.has_neighbours = pieces.size < limits.own_pack_bytes
        """Whether it shares its pack with files that may be wanted next."""


class _Ahead:
    """Read-ahead of one span: its recipes may have to come first, then its chunks."""

    __slots__ = ("_fetch", "scope")

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self._fetch: Fetch | None = None

    def follow(self, fetch: Fetch) -> None:
        """What is to be cancelled from now on."""
        self._fetch = fetch

    def cancel(self) -> None:
        """Idempotent."""
        self.scope.cancel()
        if self._fetch is not None:
            self._fetch.cancel()


class Reads:
    """See the module."""

    def __init__(
        self,
        cache: Cache,
        recipes: Recipes,
        load_entry: Callable[[int], Awaitable[Entry]],
        load_fresh_entry: Callable[[int], Awaitable[Entry]],
        limits: Limits,
        nursery: trio.Nursery,
        order: Order | None = None,
    ) -> None:
        """`load_entry` gives the entry of an inode, `load_fresh_entry` the same from its page as the store has it now
        (`Objects.fresh_page`), `order` those that follow it. The nursery is for read-ahead that has to wait for
        something first."""
        self._cache = cache
        self._recipes = recipes
        self._load_entry = load_entry
        self._load_fresh_entry = load_fresh_entry
        # What was fetched ahead must still be there when it is read.
        self._limits = replace(limits, window_max_bytes=min(limits.window_max_bytes, cache.window_bytes))
        self._nursery = nursery
        self._processions = None if order is None else Processions(order, cache.start_fetch, self._limits, nursery)
        self._states: OrderedDict[int, _State] = OrderedDict()
        self._pieces = 0
        self._late: OrderedDict[int, tuple[float, FileRange]] = OrderedDict()
        """By inode: the last read that ran out of time, and when it did."""

    def __len__(self) -> int:
        """Files of several chunks being read."""
        return len(self._states)

    def being_read(self) -> list[tuple[int, int]]:
        """The number and size of each of them, the one that was read last at the end."""
        return [(ino, state.pieces.size) for ino, state in self._states.items()]

    def forget(self, ino: int) -> None:
        """Nobody knows the file any more."""
        state = self._states.pop(ino, None)
        if state is not None:
            self._drop(state)

    def read_nowait(self, wanted: FileRange) -> Buffer | None:
        """The bytes, or None if that takes `read`."""
        state = self._state(wanted)
        if state is None:
            if wanted.size > MAX_CHUNK_BYTES:
                return None
            data = self._cache.read_chunk_nowait(wanted.identity, wanted.size, wanted.start, wanted.length)
            if data is not None:
                self._note(wanted, missed=False)
            return data
        data = self._read_state_nowait(state, wanted)
        if data is not None:
            run = state.runs.note(wanted.start, wanted.end)
            self._read_ahead(state, run, missed=False)
        return data

    async def read(self, wanted: FileRange) -> Buffer:
        """The bytes. Raises FetchTimeoutError after the limits' deadline, and what loading and fetching raise."""
        seconds = self._limits.read_deadline_s
        asked: list[PlacedChunk] = []
        if not self._was_late(wanted):
            with trio.move_on_after(seconds):
                return await self._read(wanted, asked)
            self._late[wanted.ino] = trio.current_time(), wanted
            if len(self._late) > MAX_LATE:
                self._late.popitem(last=False)
        raise self._too_slow(seconds, asked)

    def _too_slow(self, seconds: float, asked: Sequence[PlacedChunk]) -> FsdError:
        """The error for a read of these chunks, if it came so far as to ask for some."""
        error = self._cache.too_slow(seconds)
        present = self._cache.contains(asked)
        missing = next((chunk for chunk, is_here in zip(asked, present, strict=True) if not is_here), None)
        return error if missing is None else located(error, chunk=missing.id, pack=missing.placement.pack)

    def _was_late(self, wanted: FileRange) -> bool:
        """Whether this is asked for again just after it ran out of time: else a program would wait twice as long."""
        late = self._late.get(wanted.ino)
        if late is None:
            return False
        late_s, before = late
        if trio.current_time() - late_s >= AGAIN_S:
            del self._late[wanted.ino]
            return False
        return before.identity == wanted.identity and before.start <= wanted.start and wanted.end <= before.end

    async def _read(self, wanted: FileRange, asked: list[PlacedChunk]) -> Buffer:
        """The bytes; `asked` becomes the chunks that they are in, once it comes to these."""
        state = self._state(wanted)
        if state is None and wanted.size <= MAX_CHUNK_BYTES:
            data = await self._cache.read_chunk(wanted.identity, wanted.size, wanted.start, wanted.length)
            if data is not None:
                self._note(wanted, missed=False)
                return data
        if state is None:
            entry = await self._load_entry(wanted.ino)
            first = entry.chunks()[:1] if entry.level == 0 else ()
            is_followed = self._note(wanted, missed=not all(self._cache.contains(first)))
            if entry.level == 0 and len(entry.pieces) == 1:
                asked += entry.chunks()
                pieces = Pieces(entry, self._recipes)
                return await self._fetch(wanted, pieces, entry.chunks(), wanted.start, widen=not is_followed)
            state = self._keep(wanted, entry)
            data = self._read_state_nowait(state, wanted)
            if data is not None:
                state.runs.note(wanted.start, wanted.end)
                return data
        run = state.runs.note(wanted.start, wanted.end)
        data = await self._look_out(state, run, wanted)
        if data is not None:
            self._read_ahead(state, run, missed=False)
            return data
        chunks, skip = await state.pieces.run(wanted.start, wanted.end)
        asked += chunks
        self._read_ahead(state, run, missed=not all(self._cache.contains(chunks)))
        # Who begins to read a file may go through all of them; who reads somewhere in it says nothing of others.
        widen = state.has_neighbours and wanted.start == 0
        return await self._fetch(wanted, state.pieces, chunks, skip, widen=widen)

    async def _fetch(
        self, wanted: FileRange, pieces: Pieces, chunks: Sequence[PlacedChunk], skip: int, *, widen: bool
    ) -> Buffer:
        """Read chunks of `pieces`; where one is misplaced, once more with the placements that the store has now."""
        try:
            return await self._cache.read(chunks, skip, wanted.length, widen=widen)
        except MisplacedError as error:
            load_entry = partial(self._load_fresh_entry, wanted.ino)
            fresh = await pieces.placed_anew(wanted.start, wanted.end, error, load_entry)
        # With the state goes what is being fetched ahead from where nothing is.
        self.forget(wanted.ino)
        chunks, skip = await fresh.run(wanted.start, wanted.end)
        return await self._cache.read(chunks, skip, wanted.length, widen=False)

    def _note(self, wanted: FileRange, *, missed: bool) -> bool:
        """A read for who may go through many files; whether those that follow are being taken care of."""
        if wanted.start or self._processions is None or wanted.size >= self._limits.own_pack_bytes:
            return False
        return self._processions.note(wanted.ino, missed=missed)

    def _state(self, wanted: FileRange) -> _State | None:
        state = self._states.get(wanted.ino)
        if state is None:
            return None
        if state.identity != wanted.identity:
            self.forget(wanted.ino)
            return None
        self._states.move_to_end(wanted.ino)
        return state

    def _keep(self, wanted: FileRange, entry: Entry) -> _State:
        """The state of a file, made unless another reader was faster."""
        state = self._state(wanted)
        if state is None:
            state = _State(wanted.identity, Pieces(entry, self._recipes), self._limits)
            self._states[wanted.ino] = state
            self._pieces += len(state.pieces)
            while len(self._states) > self._limits.read_states or (
                self._pieces > self._limits.read_pieces and len(self._states) > 1
            ):
                self._drop(self._states.popitem(last=False)[1])
        return state

    def _drop(self, state: _State) -> None:
        self._pieces -= len(state.pieces)
        state.runs.collapse()

    # --- what is there

    def _read_state_nowait(self, state: _State, wanted: FileRange) -> Buffer | None:
        run = state.runs.match(wanted.start, wanted.end)
        if run is not None:
            if isinstance(run.lookout, Lookout):
                return run.lookout.read_nowait(wanted.start, wanted.end, self._nursery)
            if wanted.end > run.end:
                return None  # somebody reads on: this is worth a lookout
        found = state.pieces.run_nowait(wanted.start, wanted.end)
        return None if found is None else self._cache.read_nowait(found.chunks, found.skip, wanted.length)

    async def _look_out(self, state: _State, run: Run, wanted: FileRange) -> Buffer | None:
        """What a run of reads finds in the cache; None where something is absent, or this is no run yet."""
        if run.reads < 2:
            return None
        if not isinstance(run.lookout, Lookout):
            run.lookout = Lookout(self._cache, state.pieces)
        return await run.lookout.read(wanted.start, wanted.end)

    # --- what will be wanted

    def _read_ahead(self, state: _State, run: Run, *, missed: bool) -> None:
        span = state.runs.read_ahead(run, state.pieces.size, missed=missed)
        if span is None:
            return
        ahead = _Ahead()
        run.started.append((span.end, ahead.cancel))
        found = state.pieces.run_nowait(span.start, span.end)
        if found is None:
            self._nursery.start_soon(self._fetch_later, state.pieces, span, ahead)
        else:
            # The chunk that the span begins in the middle of belongs to the read before.
            ahead.follow(self._cache.start_fetch(found.chunks[1:] if found.skip else found.chunks))

    async def _fetch_later(self, pieces: Pieces, span: Span, ahead: _Ahead) -> None:
        with ahead.scope:
            try:
                found = await pieces.run(span.start, span.end)
            except FsdError:
                return  # whoever reads on will be told
            ahead.follow(self._cache.start_fetch(found.chunks[1:] if found.skip else found.chunks))
