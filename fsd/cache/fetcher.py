"""Fetching what is absent: single flight, bounded requests, retries, the second look at a bad chunk.

Owns the requests in flight. Is handed a `PackSource` and a writer; does not know files, nor what is in the cache
beyond the question whether a chunk is present.

A *job* is one range on its way. A chunk is in one job at most; whoever wants it joins that job. A reader waits for
all jobs that have chunks of theirs and gets the plaintext from the jobs, so that it makes progress even if the cache
keeps nothing.

Concurrency: all state belongs to the event loop's thread. `fetch` joins and makes jobs without an await in between,
which is what makes the flight single. No lock is held across a request. Jobs run in the cache's nursery, not in a
reader's: a reader that is cancelled leaves its jobs to the others, and a job that was started for readers goes on
without any (they tend to come back); only read-ahead that nobody waits for is cancelled.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence

import trio

from fsd.cache.plan import Range, check_placed, coalesce
from fsd.cache.presence import Presence
from fsd.cache.slots import Slots
from fsd.cache.writing import MirrorWriter
from fsd.errors import (
    CorruptDataError,
    FsdError,
    NotFoundError,
    StorePermissionError,
    StoreUnreachableError,
    located,
)
from fsd.format.model import PlacedChunk
from fsd.histogram import Histogram
from fsd.ids import Buffer
from fsd.limits import Limits
from fsd.repo.packs import MisplacedError, PackGoneError, PackSource


class FetchTimeoutError(StoreUnreachableError):
    """A read's deadline passed before its chunks came."""


class _Waiter:
    """A reader of chunks in one or more jobs."""

    __slots__ = ("collected", "done", "error", "jobs", "wanted")

    def __init__(self, chunks: Iterable[PlacedChunk]) -> None:
        self.wanted = {chunk.id: chunk for chunk in chunks}
        self.collected: dict[bytes, Buffer] = {}
        self.error: FsdError | None = None
        self.jobs = 0
        self.done = trio.Event()

    def fail(self, chunks: Iterable[PlacedChunk], error: FsdError) -> None:
        """These chunks could not be had from where they were looked for.

        That is an error only for who looks for one of them in the same place. Who was told another one by their own
        hints finds the chunk absent still, and tries there.
        """
        mine = next((chunk for chunk in chunks if self.wanted.get(chunk.id) == chunk), None)
        if mine is not None:
            self.error = self.error or located(error, chunk=mine.id, pack=mine.placement.pack)


class _Job:
    __slots__ = (
        "attempts",
        "chunks",
        "done",
        "fetched",
        "holds",
        "is_ahead",
        "may_start",
        "scope",
        "started_s",
        "waiters",
    )

    def __init__(self, fetched: Range, *, is_ahead: bool) -> None:
        self.fetched = fetched
        self.chunks = {chunk.id for chunk in fetched.chunks}
        self.is_ahead = is_ahead
        self.holds = 0
        """Read-ahead handles that want it."""
        self.waiters: set[_Waiter] = set()
        self.attempts = 0
        self.may_start = trio.Event()
        self.started_s = 0.0
        self.scope = trio.CancelScope()
        self.done = trio.Event()


class Fetch:
    """Read-ahead that was started. It goes on until it is done or cancelled, whatever becomes of the handle."""

    def __init__(self, fetcher: Fetcher, jobs: list[_Job]) -> None:
        self._fetcher = fetcher
        self._jobs = jobs
        for job in jobs:
            job.holds += 1

    @property
    def is_done(self) -> bool:
        """Whether nothing of it is on its way any more."""
        return all(job.done.is_set() for job in self._jobs)

    async def wait(self) -> None:
        """Wait until it has ended, well or not."""
        for job in self._jobs:
            await job.done.wait()

    def cancel(self) -> None:
        """Give it up, except for what a reader or another handle waits for. Idempotent."""
        jobs, self._jobs = self._jobs, []
        for job in jobs:
            job.holds -= 1
            self._fetcher.cancel_unwanted(job)


class Fetcher:
    """See the module's docstring."""

    def __init__(
        self, source: PackSource, presence: Presence, writer: MirrorWriter, limits: Limits, nursery: trio.Nursery
    ) -> None:
        self._source = source
        self._presence = presence
        self._writer = writer
        self._limits = limits
        self._nursery = nursery
        self._jobs: dict[bytes, _Job] = {}
        self._slots: Slots[_Job] = Slots(
            requests=limits.fetch_requests,
            ahead_requests=limits.fetch_ahead_requests,
            size_bytes=limits.fetch_bytes,
        )
        self.fetched_bytes = 0
        self.fetched_requests = 0
        self.written_bytes = 0
        self.retries = 0
        self.failures = 0
        self.corrupt_chunks = 0
        self.seconds = Histogram()
        self.last_failure: tuple[float, FsdError] | None = None
        """Of a request that was tried again, and when it failed, by trio's clock."""

    @property
    def in_flight_requests(self) -> int:
        """Ranges being fetched or written."""
        return len(self._slots)

    @property
    def in_flight_bytes(self) -> int:
        """Their bytes."""
        return self._slots.running_bytes

    @property
    def waiting_requests(self) -> int:
        """Ranges that wait for a slot."""
        return self._slots.waiting

    def is_coming(self, chunk: bytes) -> bool:
        """Whether a chunk is on its way."""
        return chunk in self._jobs

    # --- asking

    async def fetch(
        self, chunks: Sequence[PlacedChunk], *, once_asked: Callable[[], None] | None = None
    ) -> dict[bytes, Buffer]:
        """Fetch chunks that are absent. Returns plaintext by id. `once_asked` is called when all are on their way.

        A chunk that somebody else's job was about to write already may be missing from the result and is in the cache
        then; so may one for which somebody else had a false hint: ask again. Raises StoreUnreachableError,
        StorePermissionError, MisplacedError.
        """
        for chunk in chunks:
            check_placed(chunk)
        waiter = _Waiter(chunks)
        jobs = self._join(chunks, ahead=False)
        waiter.jobs = len(jobs)
        for job in jobs:
            job.waiters.add(waiter)
            job.is_ahead = False
            self._slots.promote(job)
        self._start_jobs()
        if once_asked is not None:
            once_asked()
        try:
            await waiter.done.wait()
        finally:
            for job in jobs:
                job.waiters.discard(waiter)
                self.cancel_unwanted(job)
        if waiter.error is not None:
            raise waiter.error
        return waiter.collected

    def start(self, chunks: Iterable[PlacedChunk]) -> Fetch:
        """Begin to fetch chunks that are absent and not on their way, with what slots readers leave."""
        sound = []
        for chunk in chunks:
            try:
                check_placed(chunk)
            except CorruptDataError:
                continue  # whoever reads it is told
            sound.append(chunk)
        fetch = Fetch(self, self._join(sound, ahead=True))
        self._start_jobs()
        return fetch

    def _join(self, chunks: Iterable[PlacedChunk], *, ahead: bool) -> list[_Job]:
        """The jobs that have these chunks, made where there were none."""
        jobs: dict[_Job, None] = {}
        absent: dict[bytes, PlacedChunk] = {}
        for chunk in chunks:
            job = self._jobs.get(chunk.id)
            if job is not None:
                jobs[job] = None
            else:
                absent[chunk.id] = chunk
        for fetched in coalesce(
            absent.values(), range_bytes=self._limits.range_bytes, gap_bytes=self._limits.range_gap_bytes
        ):
            job = self._add(fetched, ahead=ahead)
            jobs[job] = None
        return list(jobs)

    def _add(self, fetched: Range, *, ahead: bool) -> _Job:
        job = _Job(fetched, is_ahead=ahead)
        for chunk in job.chunks:
            self._jobs[chunk] = job
        self._queue(job)
        self._nursery.start_soon(self._run, job)
        return job

    def _queue(self, job: _Job) -> None:
        job.may_start = trio.Event()
        self._slots.add(job, job.fetched.length, ahead=job.is_ahead)

    def _start_jobs(self) -> None:
        while (job := self._slots.start_next()) is not None:
            job.started_s = trio.current_time()
            job.may_start.set()

    def cancel_unwanted(self, job: _Job) -> None:
        """Cancel a job that was read-ahead all along, if nobody is left who wants it."""
        if job.is_ahead and not job.holds and not job.waiters:
            job.scope.cancel()

    async def lend_slots(self) -> None:
        """For ever: let requests that have become slow not count as in flight."""
        slow_s = self._limits.fetch_slow_s
        while True:
            await trio.sleep(slow_s / 2)
            before_s = trio.current_time() - slow_s
            for job in self._slots.running():
                if job.started_s < before_s:
                    self._slots.lend(job)
            self._start_jobs()

    # --- one job

    async def _run(self, job: _Job) -> None:
        try:
            with job.scope:
                while not await self._attempt_in_slot(job):
                    await trio.sleep(self._backoff_s(job.attempts))
                    self._queue(job)
                    self._start_jobs()
        finally:
            self._end(job)

    async def _attempt_in_slot(self, job: _Job) -> bool:
        try:
            await job.may_start.wait()
            return await self._attempt(job)
        finally:
            if not self._slots.discard(job):
                self._slots.finish(job)
            self._start_jobs()

    def _end(self, job: _Job) -> None:
        """The job is over, and whoever waits learns what came of it."""
        for chunk in job.chunks:
            self._jobs.pop(chunk, None)
        for waiter in job.waiters:
            waiter.jobs -= 1
            if waiter.jobs == 0 or waiter.error is not None:
                waiter.done.set()
        job.done.set()

    async def _attempt(self, job: _Job) -> bool:
        """Fetch, check and write. True: the job is over; False: it is worth another try, later."""
        job.attempts += 1
        fetched = job.fetched
        try:
            self.fetched_requests += 1
            asked_s = trio.current_time()
            body = await self._source.read(fetched.pack, fetched.start, fetched.length)
            self.seconds.note(trio.current_time() - asked_s)
        except StorePermissionError as error:
            self._fail(job, error)
        except StoreUnreachableError as error:
            if job.attempts < self._limits.fetch_attempts and (job.waiters or not job.is_ahead):
                self.retries += 1
                self.last_failure = trio.current_time(), error
                return False
            self._fail(job, error)
        except NotFoundError as error:
            self._miss(job, [PackGoneError(chunk, error) for chunk in fetched.chunks])
        except CorruptDataError as error:
            self._miss(job, [MisplacedError(chunk, error.message) for chunk in fetched.chunks])
        else:
            self.fetched_bytes += len(body)
            await self._store(job, body)
        return True

    def _backoff_s(self, attempts: int) -> float:
        longest = min(self._limits.retry_min_s * 8.0 ** (attempts - 1), self._limits.retry_max_s)
        return longest * random.uniform(0.5, 1.0)

    async def _store(self, job: _Job, body: Buffer) -> None:
        stored = await self._writer.store(job.fetched, body, lambda: self._wanted(job))
        self.written_bytes += stored.written_bytes
        self._hand_out(job, stored.kept)
        for chunk in job.fetched.chunks:
            if chunk.id in stored.bad:
                await self._look_again(job, chunk, stored.bad[chunk.id])

    def _wanted(self, job: _Job) -> set[bytes]:
        return set[bytes]().union(*(waiter.wanted for waiter in job.waiters)) & job.chunks

    def _hand_out(self, job: _Job, kept: dict[bytes, Buffer]) -> None:
        for waiter in job.waiters:
            waiter.collected.update((chunk, plain) for chunk, plain in kept.items() if chunk in waiter.wanted)

    async def _look_again(self, job: _Job, chunk: PlacedChunk, first: CorruptDataError) -> None:
        """A chunk was bad. Fetch it alone, if a reader wants it; a second failure is theirs."""
        if not any(chunk.id in waiter.wanted for waiter in job.waiters):
            return
        place = chunk.placement
        alone = Range(place.pack, place.offset, place.stored, (chunk,))
        error: FsdError = first
        try:
            self.fetched_requests += 1
            body = await self._source.read(alone.pack, alone.start, alone.length)
            self.fetched_bytes += len(body)
            stored = await self._writer.store(alone, body, lambda: {chunk.id})
        except StoreUnreachableError as unreachable:
            error = unreachable
        except NotFoundError as gone:
            error = PackGoneError(chunk, gone)
        else:
            if chunk.id not in stored.bad:
                self._hand_out(job, stored.kept)
                return
            self.corrupt_chunks += 1
            bad = f"{stored.bad[chunk.id].message} (pack {place.pack.hex()} at {place.offset})"
            error = MisplacedError(chunk, bad)
        self._tell(job, (chunk,), error)

    def _fail(self, job: _Job, error: FsdError) -> None:
        self.failures += 1
        self._tell(job, job.fetched.chunks, error)

    def _miss(self, job: _Job, errors: Sequence[MisplacedError]) -> None:
        """None of the job's chunks is where it was looked for: each has an error that names it."""
        self.failures += 1
        for error in errors:
            self._tell(job, (error.misplaced,), error)

    def _tell(self, job: _Job, chunks: Sequence[PlacedChunk], error: FsdError) -> None:
        """Give an error to those whose it is. They know for which file it was, so that it is they who log it."""
        for waiter in job.waiters:
            waiter.fail(chunks, error)
