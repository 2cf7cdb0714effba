"""What the service manager hears."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path

import pytest

from fsd.daemon.notify import Notifier


def _listen(address: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind("\0" + address[1:] if address.startswith("@") else address)
    listener.settimeout(5)
    return listener


@pytest.mark.parametrize("is_abstract", [False, True], ids=["path", "abstract"])
def test_states_are_sent(tmp_path: Path, is_abstract: bool) -> None:
    address = f"@fsd-test-{os.getpid()}" if is_abstract else str(tmp_path / "socket")
    with _listen(address) as listener:
        notifier = Notifier(address)
        notifier.ready("serving")
        assert listener.recv(1000) == b"READY=1\nSTATUS=serving"
        notifier.status("busy")
        assert listener.recv(1000) == b"STATUS=busy"
        notifier.watchdog()
        assert listener.recv(1000) == b"WATCHDOG=1"
        notifier.stopping()
        assert listener.recv(1000) == b"STOPPING=1"


def test_without_an_address_nothing_happens() -> None:
    Notifier().ready("serving")
    Notifier("").stopping()


def test_a_manager_that_is_gone_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Notifier(str(tmp_path / "nobody")).ready("serving")
    assert "cannot notify the service manager" in caplog.text


def test_a_manager_that_does_not_listen_does_not_block(tmp_path: Path) -> None:
    address = str(tmp_path / "socket")
    with _listen(address):
        for _ in range(2000):
            Notifier(address).status("x" * 1000)
