"""Tells the service manager how the daemon is (sd_notify(3)). Says nothing where nobody asked."""

from __future__ import annotations

import logging
import socket
import time

log = logging.getLogger(__name__)


class Notifier:
    """Sends states to the socket whose address the manager gave us (its $NOTIFY_SOCKET); '' sends nothing."""

    def __init__(self, address: str = "") -> None:
        # A leading @ stands for the NUL of an abstract address.
        self._address = "\0" + address[1:] if address.startswith("@") else address

    @property
    def is_heard(self) -> bool:
        """Whether there is a service manager."""
        return bool(self._address)

    def ready(self, status: str) -> None:
        """The daemon serves."""
        self._send(f"READY=1\nSTATUS={status}")

    def status(self, status: str) -> None:
        """One line for people."""
        self._send(f"STATUS={status}")

    def stopping(self) -> None:
        """The daemon is about to end."""
        self._send("STOPPING=1")

    def reloading(self) -> None:
        """The configuration is being read again; `ready` says when that is done."""
        # Since version 253 systemd wants to know since when.
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def watchdog(self) -> None:
        """A sign of life, for a unit with WatchdogSec."""
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        """Never blocks and never fails: to be heard is not worth a mount."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.setblocking(False)
                channel.sendto(message.encode(), self._address)
        except OSError as error:
            log.warning("cannot notify the service manager: %s", error)
