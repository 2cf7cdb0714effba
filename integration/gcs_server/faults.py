"""What is to go wrong: which requests, how often, and how.

    server.faults.add(Status(503), operations=["media"], probability=0.2)
    stall = server.faults.add(Stall(), match="packs/*", times=1)
    ...
    stall.wait_met()                     # a thread's wait: somebody is waiting now
    stall.remove()                       # it happens to nobody else
    server.faults.assert_all_exercised()

A fault that was never met shows that a test tests nothing.
"""

from __future__ import annotations

import fnmatch
import math
import random
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Status:
    """Answer with an error and do nothing."""

    status: int
    retry_after_s: int | None = None


@dataclass(frozen=True)
class Slow:
    """Answer later."""

    seconds: float


@dataclass(frozen=True)
class Reset:
    """Do what is asked, and reset the connection after so many bytes of the answer's body; -1: before its head."""

    after_bytes: int = -1


@dataclass(frozen=True)
class Cut:
    """Reset the connection after so many bytes of the request's body; nothing is done, but a session keeps them."""

    after_bytes: int = 0


@dataclass(frozen=True)
class Truncate:
    """Leave out the end of the body. Not `honest`: Content-Length says all of it, then the connection is closed."""

    count: int = 1
    honest: bool = False


@dataclass(frozen=True)
class Lengthen:
    """Append bytes to the body. Not `honest`: Content-Length says nothing of them."""

    count: int = 1
    honest: bool = True


@dataclass(frozen=True)
class FlipBit:
    """Change one bit, in the byte at this share of the body."""

    at: float = 0.5
    bit: int = 0


@dataclass(frozen=True)
class Stall:
    """Send so many bytes of the body and then nothing, for ever; -1: not even a head."""

    after_bytes: int = -1


@dataclass(frozen=True)
class Drip:
    """Send the answer byte by byte; `head`: from its first line on."""

    interval_s: float = 1.0
    head: bool = False


class Hold:
    """Do nothing until `release` is set, then what is asked. For tests in this process."""

    def __init__(self) -> None:
        self.release = threading.Event()


Action = Hold | Status | Slow | Reset | Cut | Truncate | Lengthen | FlipBit | Stall | Drip

_ACTIONS: dict[str, type[Any]] = {
    action.__name__.lower(): action for action in (Status, Slow, Reset, Cut, Truncate, Lengthen, FlipBit, Stall, Drip)
}


def parse_action(kind: str, arguments: dict[str, Any]) -> Action:
    """An action by its name in lower case. Raises ValueError or TypeError."""
    if kind not in _ACTIONS:
        raise ValueError(f"no fault {kind!r}; there are {', '.join(_ACTIONS)}")
    action: Action = _ACTIONS[kind](**arguments)
    return action


class Fault:
    """One that was added, and how often it was met."""

    def __init__(
        self,
        action: Action,
        *,
        operations: Sequence[str] = (),
        match: str = "*",
        times: int | None = None,
        after: int = 0,
        probability: float = 1.0,
    ) -> None:
        self.action = action
        self.met = 0
        self._operations = tuple(operations)
        self._match = match
        self._times: float = math.inf if times is None else times
        self._skip = after
        self._probability = probability
        self._changed = threading.Condition()

    def remove(self) -> None:
        """It happens to nobody any more, and what was not met is no longer missed."""
        with self._changed:
            self._times = self.met

    @property
    def exercised(self) -> bool:
        """Whether it was met as often as it was meant to be; at least once, if that is without end."""
        return self.met >= (1 if self._times == math.inf else self._times)

    def wait_met(self, count: int = 1, timeout_s: float = 30.0) -> None:
        """Wait until it was met so often. For another thread than the server's."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.met >= count, timeout_s), f"{self} was not met in time"

    def meets(self, operation: str, name: str, chance: random.Random) -> bool:
        """Count this request, and say whether it is hit."""
        if self._operations and operation not in self._operations:
            return False
        if not fnmatch.fnmatchcase(name, self._match) or self.met >= self._times:
            return False
        if self._skip:
            self._skip -= 1
            return False
        if self._probability < 1 and chance.random() >= self._probability:
            return False
        with self._changed:
            self.met += 1
            self._changed.notify_all()
        return True

    def __repr__(self) -> str:
        operations = "|".join(self._operations) or "everything"
        return f"<{self.action} for {operations} of {self._match}, met {self.met} of {self._times} times>"

    def as_json(self) -> dict[str, Any]:
        """What it does and how often it did."""
        arguments = {} if isinstance(self.action, Hold) else asdict(self.action)
        return {"kind": type(self.action).__name__.lower(), "met": self.met, **arguments}


class Faults:
    """Where several fit a request, the first that was added takes it."""

    def __init__(self, seed: int = 0) -> None:
        self._chance = random.Random(seed)
        self._faults: tuple[Fault, ...] = ()

    def add(
        self,
        action: Action,
        *,
        operations: Sequence[str] = (),
        match: str = "*",
        times: int | None = None,
        after: int = 0,
        probability: float = 1.0,
    ) -> Fault:
        """Do `action` to the next `times` requests (None: to all) of these operations (none: of all) whose object's
        name matches the shell pattern, once `after` of them have passed; to each only by chance, if so wished."""
        fault = Fault(action, operations=operations, match=match, times=times, after=after, probability=probability)
        self._faults = (*self._faults, fault)
        return fault

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        for fault in self._faults:
            fault.remove()
        self._faults = ()

    def assert_all_exercised(self) -> None:
        """Fail if a fault was not met as often as it was meant to be."""
        missed = [fault for fault in self._faults if not fault.exercised]
        assert not missed, f"faults that were never (fully) exercised: {missed}"

    def meet(self, operation: str, name: str) -> Action | None:
        """What is to happen to this request."""
        return next((fault.action for fault in self._faults if fault.meets(operation, name, self._chance)), None)

    def as_json(self) -> list[dict[str, Any]]:
        """All of them."""
        return [fault.as_json() for fault in self._faults]
