"""Starting a daemon: real processes that do what a daemon may do wrong."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fsd.daemon import mounts
from fsd.daemon.start import StartError, start

READY = """
import json, os, signal, sys
os.write(int(sys.argv[1]), json.dumps({"ready": True, "pid": os.getpid()}).encode() + b"\\n")
print("serving", flush=True)
signal.pause()
"""
REFUSES = """
import json, os, sys
os.write(int(sys.argv[1]), json.dumps({"ready": False, "error": "no such store; make one", "exit_code": 4}).encode())
os.write(int(sys.argv[1]), b"\\n")
sys.exit(4)
"""
DIES = "import sys; print('the reason'); sys.exit(7)"
KILLED = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
HANGS = """
import os, pathlib, signal, sys
pathlib.Path(sys.argv[2]).write_text(str(os.getpid()))
signal.pause()
"""


def _command(code: str, *arguments: str | Path) -> Callable[[int], list[str]]:
    return lambda descriptor: [sys.executable, "-c", code, str(descriptor), *map(str, arguments)]


def test_it_returns_when_the_daemon_is_ready(tmp_path: Path) -> None:
    log = tmp_path / "state" / "fsd" / "x.log"
    pid = start(_command(READY), log, timeout_s=20)
    pidfd = os.pidfd_open(pid)
    try:
        assert os.getsid(pid) == pid  # no signal of our terminal reaches it
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        assert os.readlink(f"/proc/{pid}/fd/1") == str(log)
        assert log.stat().st_mode & 0o077 == 0 or log.parent.stat().st_mode & 0o077 == 0
    finally:
        os.kill(pid, signal.SIGTERM)
        assert mounts.wait_gone(pidfd, timeout_s=10)
        os.close(pidfd)
        os.waitpid(pid, 0)


def test_its_refusal_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="no such store; make one") as caught:
        start(_command(REFUSES), tmp_path / "x.log", timeout_s=20)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(("code", "ending"), [(DIES, "exit code 7"), (KILLED, "signal 9")], ids=["exits", "killed"])
def test_sudden_death_points_to_the_log(tmp_path: Path, code: str, ending: str) -> None:
    log = tmp_path / "x.log"
    with pytest.raises(StartError, match=rf"ended at once \({ending}\); see {log}"):
        start(_command(code), log, timeout_s=20)
    assert log.read_text() == ("the reason\n" if code == DIES else "")


def test_who_takes_too_long_is_ended(tmp_path: Path) -> None:
    noted = tmp_path / "pid"
    with pytest.raises(StartError, match=r"not ready within 0\.5 s"):
        start(_command(HANGS, noted), tmp_path / "x.log", timeout_s=0.5)
    if noted.exists():  # on a slow machine it may not have come that far
        with pytest.raises(ProcessLookupError):
            os.kill(int(noted.read_text()), 0)


def test_a_long_log_is_put_aside(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_bytes(b"old\n" * (2 << 20))
    with pytest.raises(StartError):
        start(_command(DIES), log, timeout_s=20)
    assert log.read_text() == "the reason\n"
    assert (tmp_path / "x.old").stat().st_size == 8 << 20


def test_no_place_for_a_log(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match="cannot keep a log at"):
        start(_command(READY), tmp_path / "file" / "x.log", timeout_s=20)
