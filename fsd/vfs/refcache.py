"""What can move, as it is known: which repositories there are, and what their refs say.

Answers are asked for again when they are `limits.refs_ttl_s` old, and are at most twice as old as long as the store can
be reached: whoever comes in between is not kept waiting. When it cannot, the last known answer is given, however old it
is: at once, but for the first who asks after a longer while. Only what was never known is an error. A name that
certainly does not exist costs no request while a listing is fresh.

Requests run in the nursery and are shared: whoever asks meanwhile waits for the same answer, and if he gives up waiting
it is still used. Knows names and refs, not what a path means.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Generic, TypeVar

import trio

from fsd.errors import CorruptDataError, FsdError, NotFoundError, StoreUnreachableError, UsageError
from fsd.format.keys import is_ref_name, is_repository_name
from fsd.format.ref import Ref
from fsd.limits import Limits
from fsd.repo.repository import Repositories
from fsd.repo.revisions import resolve_base
from fsd.tasks import gather
from fsd.vfs.refmemory import KnownRefs

log = logging.getLogger(__name__)

MAX_ANSWERS = 4096
"""Answers remembered of each kind; the least recently used go first."""

T = TypeVar("T")


class _Answer(Generic[T]):
    """One question, its last answer and its last failure. Times by trio's clock."""

    __slots__ = ("asked_s", "checked_s", "error", "failed_s", "flight", "known", "value")

    def __init__(self) -> None:
        self.known = False
        self.value: T | None = None
        self.checked_s = -float("inf")
        self.error: FsdError | None = None
        self.failed_s = -float("inf")
        self.flight: trio.Event | None = None
        self.asked_s = -float("inf")
        """When the flight began."""


class RefCache:
    """See the module. For the tasks of one trio loop."""

    def __init__(self, repositories: Repositories, limits: Limits, nursery: trio.Nursery) -> None:
        self._store = repositories
        self._refs = repositories.refs
        self._limits = limits
        self._nursery = nursery
        self._repositories: _Answer[Sequence[str]] = _Answer()
        self._names: OrderedDict[str, _Answer[frozenset[str]]] = OrderedDict()
        self._read: OrderedDict[tuple[str, str], _Answer[Ref | None]] = OrderedDict()
        self._all: OrderedDict[str, _Answer[Mapping[str, Ref]]] = OrderedDict()
        self._prefixes: OrderedDict[tuple[str, str], _Answer[bytes | None]] = OrderedDict()
        self._away: set[type[FsdError]] = set()
        """In what ways the store is known not to answer."""
        self._reported: set[str] = set()
        self.changes = 0
        """How often something became known that was not."""

    def prime(self, repositories: Sequence[str] | None = None) -> None:
        """Know the repositories, which were asked for just now; or start to, so that the first lookup does not have
        to."""
        if repositories is None:
            self._refresh(self._repositories, self._ask_repositories)
            return
        self.changes += not self._repositories.known or list(repositories) != list(self._repositories.value or ())
        _know(self._repositories, repositories)
        self._repositories.checked_s = trio.current_time()

    def recall(self, known: KnownRefs) -> None:
        """Begin with what was known at another time: too old, and better than nothing."""
        if known.repositories is not None:
            _know(self._repositories, known.repositories)
        listed: dict[str, dict[str, Ref]] = {repository: {} for repository in known.listed}
        for (repository, name), ref in known.refs.items():
            _know(_entry(self._read, (repository, name)), ref)
            if repository in listed:
                listed[repository][name] = ref
        for repository, refs in listed.items():
            _know(_entry(self._all, repository), refs)

    def known(self) -> KnownRefs:
        """All that is known now."""
        refs = {
            (repository, name): ref
            for repository, everything in self._all.items()
            for name, ref in (everything.value or {}).items()
        }
        for named, answer in self._read.items():
            if answer.known:
                refs.pop(named, None)
            if answer.value is not None:
                refs[named] = answer.value
        listed = frozenset(repository for repository, everything in self._all.items() if everything.known)
        return KnownRefs(self._repositories.value, refs, listed)

    async def refresh(self) -> None:
        """Ask again for all that is listed, and take nothing else for current that was known until now.

        Raises what asking raises.
        """
        for answers in (self._names, self._read, self._all, self._prefixes):
            for answer in answers.values():
                answer.checked_s = answer.failed_s = -math.inf
        await self._ask_again(self._repositories, self._ask_repositories)
        for repository, everything in list(self._all.items()):
            if repository in (self._repositories.value or ()):
                await self._ask_again(everything, partial(self._ask_all, repository))

    async def _ask_again(self, answer: _Answer[T], ask: Callable[[], Awaitable[T]]) -> None:
        begun_s = trio.current_time()
        while answer.asked_s < begun_s:  # one that is under way may have been answered before
            answer.failed_s = -math.inf
            flight = self._refresh(answer, ask)
            assert flight is not None
            await flight.wait()
        if answer.error is not None:
            raise answer.error.with_traceback(None)

    async def repositories(self) -> Sequence[str]:
        """The names of all repositories, sorted."""
        return await self._current(self._repositories, self._ask_repositories)

    async def has_repository(self, name: str) -> bool:
        """Whether there is a repository of that name. What is known to be there is not waited for."""
        if not is_repository_name(name):
            return False
        answer = self._repositories
        if answer.known and answer.value is not None and name in answer.value:
            if not self._is_fresh(answer):
                self._refresh(answer, self._ask_repositories)
            return True
        return name in await self.repositories()

    async def ref(self, repository: str, name: str) -> Ref | None:
        """A ref, or None. One request if it was not asked for lately; none for a name that no ref can have."""
        if not is_ref_name(name):
            return None
        everything = self._all.get(repository)
        if everything is not None and self._is_fresh(everything) and everything.value is not None:
            return everything.value.get(name)
        names = self._names.get(repository)
        if names is not None and self._is_fresh(names) and names.value is not None and name not in names.value:
            return None
        answer = _entry(self._read, (repository, name))
        ref = await self._current(answer, partial(self._ask_ref, repository, name))
        if ref is None:
            # Whoever asks for one name that is not there asks for others: the next ones will be free.
            names = _entry(self._names, repository)
            if not self._is_fresh(names):
                self._refresh(names, partial(self._ask_names, repository))
        return ref

    async def refs_of(self, repository: str) -> Mapping[str, Ref]:
        """All refs of a repository that can be read, by name, sorted."""
        return await self._current(_entry(self._all, repository), partial(self._ask_all, repository))

    async def commit_of_prefix(self, repository: str, prefix: str) -> bytes | None:
        """The only commit of the repository whose id begins with these digits; None if there is none or more."""
        answer = _entry(self._prefixes, (repository, prefix))
        return await self._current(answer, partial(self._ask_prefix, repository, prefix))

    # --- asking the store

    async def _ask_repositories(self) -> Sequence[str]:
        return await self._refs.repositories()

    async def _ask_names(self, repository: str) -> frozenset[str]:
        return frozenset(await self._refs.list(repository))

    async def _ask_ref(self, repository: str, name: str) -> Ref | None:
        stored = await self._refs.read(repository, name)
        return stored.ref if stored is not None else None

    async def _ask_prefix(self, repository: str, prefix: str) -> bytes | None:
        try:
            return (await resolve_base(self._store, repository, prefix)).commit
        except (NotFoundError, UsageError):
            return None

    async def _ask_all(self, repository: str) -> Mapping[str, Ref]:
        try:
            refs = await self._refs.read_all(repository)
            return {name: stored.ref for name, stored in refs.items()}
        except CorruptDataError as error:
            # One bad ref must not hide the others.
            self._report(error)

        async def read(name: str) -> Ref | None:
            try:
                return await self._ask_ref(repository, name)
            except CorruptDataError as error:
                self._report(error)
                return None

        names = sorted(await self._refs.list(repository))
        found = await gather(read, names, tasks=self._limits.fetch_requests)
        return {name: ref for name, ref in zip(names, found, strict=True) if ref is not None}

    # --- answers and their age

    def _is_fresh(self, answer: _Answer[T]) -> bool:
        return self._age_s(answer) < self._limits.refs_ttl_s

    def _age_s(self, answer: _Answer[T]) -> float:
        return trio.current_time() - answer.checked_s

    async def _current(self, answer: _Answer[T], ask: Callable[[], Awaitable[T]]) -> T:
        """The answer, asked for again if it is too old; the last known one if that fails."""
        if not self._is_fresh(answer):
            has_failed = answer.error is not None
            flight = self._refresh(answer, ask)
            if flight is not None and not answer.known:
                await flight.wait()
            elif flight is not None and not has_failed and self._age_s(answer) >= 2 * self._limits.refs_ttl_s:
                # Counted from when it was asked: while the store hangs, one lookup waits, and not one every second.
                with trio.move_on_at(answer.asked_s + self._limits.refs_wait_s):
                    await flight.wait()
        if not answer.known:
            if answer.error is None:
                raise StoreUnreachableError("the store was not asked to the end: this is being closed")
            raise answer.error.with_traceback(None)
        return answer.value  # type: ignore[return-value]  # known, so it is a T

    def _refresh(self, answer: _Answer[T], ask: Callable[[], Awaitable[T]]) -> trio.Event | None:
        """Ask, unless somebody does already; what to wait for. None while a failure is too recent to try again."""
        if answer.flight is None:
            if trio.current_time() - answer.failed_s < self._limits.refs_ttl_s:
                return None
            answer.flight = trio.Event()
            answer.asked_s = trio.current_time()
            self._nursery.start_soon(self._fly, answer, ask, answer.flight)
        return answer.flight

    async def _fly(self, answer: _Answer[T], ask: Callable[[], Awaitable[T]], flight: trio.Event) -> None:
        try:
            value = await ask()
        except FsdError as error:
            answer.error, answer.failed_s = error, trio.current_time()
            if answer.known or isinstance(error, StoreUnreachableError):
                # Else whoever waits for the answer gets the error, and it is in the log with what he asked for.
                self._report(error)
        else:
            # As old as the question: the store may have answered just before the ref moved.
            self.changes += not answer.known or value != answer.value
            answer.value, answer.known, answer.checked_s, answer.error = value, True, answer.asked_s, None
            self._report_success()
        finally:
            answer.flight = None
            flight.set()

    def _report(self, error: FsdError) -> None:
        # One line for each cause, or a store that is away for a night fills the disk with them.
        if isinstance(error, StoreUnreachableError):
            if type(error) not in self._away:
                self._away.add(type(error))
                log.warning("cannot ask the store what is new: %s; going on with what is known", error)
        elif error.message not in self._reported:
            if len(self._reported) > MAX_ANSWERS:
                self._reported.clear()
            self._reported.add(error.message)
            log.warning("left out: %s", error)

    def _report_success(self) -> None:
        if self._away:
            self._away.clear()
            log.warning("the store answers again")


def _know(answer: _Answer[T], value: T) -> None:
    answer.known, answer.value = True, value


K = TypeVar("K")


def _entry(answers: OrderedDict[K, _Answer[T]], key: K) -> _Answer[T]:
    """The answer to a question, which becomes the one used last."""
    answer = answers.get(key)
    if answer is None:
        answer = answers[key] = _Answer()
        if len(answers) > MAX_ANSWERS:
            answers.popitem(last=False)
    answers.move_to_end(key)
    return answer
