"""Running a command: its output is shown and kept, and it is over when no process of it is left.

Processes that the command leaves behind become children of this process (it is their "subreaper"), however they went
into the background, and are waited for. Signals:

    Ctrl-C              the terminal gives it to the command as well; it is waited for all the same
    others, `kill -INT` handed to the command
    either, when only processes are left that the command left behind: they are not waited for any longer

Changes the process for good, which is to do nothing else: `fsd run`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path

import trio

from fsd.limits import MIB

MAX_LOG_BYTES = 64 * MIB
"""What of a command's output is kept; what comes after is shown only."""

_PR_SET_CHILD_SUBREAPER = 36
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SHOWN_ON = (1, 2)
_READ_BYTES = 64 * 1024
_MAX_LINE_BYTES = 64 * 1024
"""What is longer is kept in pieces."""
_DRAIN_S = 2.0
"""For the last of the output, where somebody else holds its pipe open."""
_PATIENCE_S = 1.0
"""After so long it is said what is waited for."""

CANNOT_RUN = 126


@dataclass
class Outcome:
    """What came of it."""

    code: int | None = None
    """What the command ended with; None if a signal ended it, or it could not be started."""
    signal: int | None = None
    interrupted: bool = False
    """Whether somebody asked for the end."""
    problems: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """As a shell has it."""
        if self.code is not None:
            return self.code
        return CANNOT_RUN if self.signal is None else 128 + self.signal


class _Log:
    """The output, as it comes, of both streams."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._left = MAX_LOG_BYTES
        self._last: list[bytes] = []
        self.dropped = 0

    def write(self, data: bytes) -> None:
        """Keep it, as far as there is room."""
        with self._lock:
            kept = data[: self._left]
            self._left -= len(kept)
            self.dropped += len(data) - len(kept)
            self._file.write(kept)

    def end_with(self, data: bytes) -> None:
        """The line that a stream ended in without an end of the line: the other stream may go on."""
        with self._lock:
            self._last.append(data)

    def finish(self) -> None:
        """When both are over."""
        for data in self._last:
            self.write(data)


async def execute(
    command: Sequence[str], directory: Path, variables: Mapping[str, str], log: Path, say: Callable[[str], None]
) -> Outcome:
    """Run it to its end. `say` is told a line for people where something takes its time."""
    _adopt_orphans()
    outcome = Outcome()
    with log.open("wb", buffering=0) as file, trio.open_signal_receiver(*_SIGNALS) as signals:
        kept = _Log(file)
        readers, writers = zip(os.pipe(), os.pipe(), strict=True)
        try:
            process = await trio.lowlevel.open_process(
                list(command), cwd=directory, env=dict(variables), stdout=writers[0], stderr=writers[1]
            )
        except OSError as error:
            outcome.problems.append(f"cannot run {command[0]}: {error.strerror}")
            return outcome
        finally:
            for descriptor in writers:
                os.close(descriptor)
        async with trio.open_nursery() as nursery:
            waiting = trio.CancelScope()
            nursery.start_soon(_pass_on, signals, process, outcome, waiting)
            with trio.CancelScope() as reading:
                async with trio.open_nursery() as pumps:
                    for source, target in zip(readers, _SHOWN_ON, strict=True):
                        # In threads: a terminal that takes nothing must not hold up who waits for signals.
                        pumps.start_soon(_pump, source, target, kept)
                    await process.wait()
                    with waiting:
                        await _no_process_left(say)
                    if waiting.cancelled_caught:
                        outcome.problems.append(f"left running: {', '.join(_children())}")
                    reading.deadline = trio.current_time() + _DRAIN_S
            nursery.cancel_scope.cancel()
        kept.finish()
        _note_end(process.returncode, outcome)
    if kept.dropped:
        say(f"of the output, the last {kept.dropped:,} bytes are not kept")
    return outcome


def _adopt_orphans() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _note_end(code: int | None, outcome: Outcome) -> None:
    assert code is not None
    if code >= 0:
        outcome.code = code
    else:
        outcome.signal = -code


async def _pass_on(
    signals: AsyncIterator[int],
    process: trio.Process,
    outcome: Outcome,
    waiting: trio.CancelScope,
) -> None:
    """Hand signals to the command while it runs; afterwards they end the waiting."""
    async for number in signals:
        outcome.interrupted = True
        if process.returncode is not None:
            waiting.cancel()
        elif number != signal.SIGINT or not _is_in_foreground():
            with suppress(ProcessLookupError):
                process.send_signal(number)


def _is_in_foreground() -> bool:
    """Whether a terminal's Ctrl-C reaches the command without us."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


async def _pump(source: int, target: int, log: _Log) -> None:
    await trio.to_thread.run_sync(_copy, source, target, log, abandon_on_cancel=True)


def _copy(source: int, target: int, log: _Log) -> None:
    """Everything from one descriptor to another, and line by line to the log, where two streams come together. Goes on
    for the log where nobody looks any more."""
    is_shown = True
    begun = b""
    while data := os.read(source, _READ_BYTES):
        begun += data
        end = max(begun.rfind(b"\n"), begun.rfind(b"\r")) + 1
        if len(begun) > _MAX_LINE_BYTES:
            end = len(begun)
        log.write(begun[:end])
        begun = begun[end:]
        view = memoryview(data)
        while is_shown and view:
            try:
                view = view[os.write(target, view) :]
            except OSError:
                is_shown = False
    log.end_with(begun)


async def _no_process_left(say: Callable[[str], None]) -> None:
    """Wait until every process has ended that the command started."""
    with trio.move_on_after(_PATIENCE_S):
        await trio.to_thread.run_sync(_reap_all, abandon_on_cancel=True)
        return
    say(f"the command has ended; waiting for what it left running: {', '.join(_children())} (Ctrl-C: do not wait)")
    await trio.to_thread.run_sync(_reap_all, abandon_on_cancel=True)


def _reap_all() -> None:
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def _children() -> list[str]:
    """Our children, for people."""
    pids: list[str] = []
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):
            pids += (task / "children").read_text().split()
    found = []
    for pid in pids:
        with suppress(OSError):
            found.append(f"{Path(f'/proc/{pid}/comm').read_text().strip()} ({pid})")
    return found
