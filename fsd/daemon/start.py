"""Starts a daemon in the background and waits until its mount is ready. Runs in the process of `fsd mount`."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fsd.errors import FsdError

_MAX_LOG_BYTES = 4 << 20
"""A longer log of earlier mounts is put aside first."""

_END_TIMEOUT_S = 10.0
"""For a daemon that was told to end."""


class StartError(FsdError):
    """The daemon did not come up. Ends `fsd` with the code that the daemon gave."""

    def __init__(self, message: str, exit_code: int = 1, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


def start(command: Callable[[int], Sequence[str]], log: Path, *, timeout_s: float) -> int:
    """Run `command(descriptor)` as a daemon that tells through that descriptor when it is ready. Returns its pid.

    Its output goes to `log`. Raises StartError; nothing is left running then, nor if this is interrupted.
    """
    _prepare_log(log)
    reading, writing = os.pipe()
    try:
        with log.open("ab") as output:
            process = subprocess.Popen(
                command(writing),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[writing],
                start_new_session=True,
                cwd="/",  # hold no other mount
            )
        os.close(writing)
        writing = -1
        try:
            return _wait_ready(process, reading, log, timeout_s)
        except BaseException:
            _end(process)
            raise
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)


def _wait_ready(process: subprocess.Popen[bytes], reading: int, log: Path, timeout_s: float) -> int:
    line = _read_line(reading, time.monotonic() + timeout_s)
    if line is None:
        raise StartError(f"the mount was not ready within {timeout_s:g} s", hint=f"see {log}")
    if not line:
        code = process.wait(_END_TIMEOUT_S)
        raise StartError(f"the daemon ended at once ({_ending(code)})", hint=f"see {log}")
    message: dict[str, Any] = json.loads(line)
    if not message["ready"]:
        process.wait(_END_TIMEOUT_S)
        raise StartError(message["error"], message["exit_code"])
    process.returncode = 0  # it lives on, on its own: no warning about that
    return process.pid


def _read_line(descriptor: int, deadline: float) -> bytes | None:
    """A line; what there is when the other side closes without one; None when time is up."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    line = b""
    while not line.endswith(b"\n"):
        left_s = deadline - time.monotonic()
        if left_s <= 0 or not poll.poll(left_s * 1000):
            return None
        data = os.read(descriptor, 65536)
        if not data:
            return b""
        line += data
    return line


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM lets it unmount; what does not listen is killed, and the next mount clears up after it."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(_END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _ending(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {-code}"


def _prepare_log(log: Path) -> None:
    try:
        log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if log.exists() and log.stat().st_size > _MAX_LOG_BYTES:
            log.replace(log.with_suffix(".old"))
    except OSError as error:
        raise StartError(f"cannot keep a log at {log}: {error.strerror}") from error
