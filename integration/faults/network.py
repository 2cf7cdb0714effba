"""A network of its own for a mount: a cable to the server that can be pulled, and names that can stop resolving.

Takes root. A process holds the namespaces; whoever is started with `wrapper` is in them. What is mounted in there is
seen from outside below `root`.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

SERVER_NAME = "storage.test"


@dataclass(frozen=True)
class Network:
    """See the module. Addresses are those of both ends of the cable."""

    holder: int
    interface: str
    server_address: str
    hosts: Path

    @property
    def wrapper(self) -> tuple[str, ...]:
        """Put before a command."""
        return "nsenter", f"--net=/proc/{self.holder}/ns/net", f"--mount=/proc/{self.holder}/ns/mnt", "--"

    @property
    def root(self) -> Path:
        """The file system as it is inside."""
        return Path(f"/proc/{self.holder}/root")

    @contextmanager
    def unplugged(self) -> Iterator[None]:
        """The cable is pulled: packets are lost, nobody is told."""
        _run("ip", "link", "set", self.interface, "down")
        try:
            yield
        finally:
            _run("ip", "link", "set", self.interface, "up")

    @contextmanager
    def unresolved(self) -> Iterator[None]:
        """The server's name does not resolve."""
        known = self.hosts.read_text()
        self.hosts.write_text("127.0.0.1 localhost\n")
        try:
            yield
        finally:
            self.hosts.write_text(known)


@contextmanager
def network(folder: Path) -> Iterator[Network]:
    """Such a network, taken down afterwards. Skips the test where none can be made."""
    if os.geteuid() != 0:
        pytest.skip("takes root")
    number = os.getpid() % 250
    interface, inside = f"fsd{os.getpid()}a", f"fsd{os.getpid()}b"
    server_address = f"10.83.{number}.1"
    hosts, resolver = folder / "hosts", folder / "resolv.conf"
    hosts.write_text(f"127.0.0.1 localhost\n{server_address} {SERVER_NAME}\n")
    resolver.write_text("nameserver 127.0.0.1\n")
    script = f"mount --bind {hosts} /etc/hosts && mount --bind {resolver} /etc/resolv.conf && echo ready && exec cat"
    holder = subprocess.Popen(
        ["unshare", "-n", "-m", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "ready\n"
        made = Network(holder.pid, interface, server_address, hosts)
        try:
            _run("ip", "link", "add", interface, "type", "veth", "peer", "name", inside, "netns", str(holder.pid))
        except subprocess.CalledProcessError:
            pytest.skip("takes virtual network devices")
        _run("ip", "address", "add", f"{server_address}/30", "dev", interface)
        _run("ip", "link", "set", interface, "up")
        for command in (
            f"ip address add 10.83.{number}.2/30 dev {inside}",
            f"ip link set {inside} up",
            "ip link set lo up",
        ):
            _run("nsenter", f"--net=/proc/{holder.pid}/ns/net", "--", *command.split())
        yield made
    finally:
        holder.stdin.close()
        holder.wait(30)
        holder.stdout.close()
        # With the namespace goes its end of the cable, and so the other.


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
