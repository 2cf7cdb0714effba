"""A daemon under a service manager: what it tells, how it ends, and its configuration read again."""

from __future__ import annotations

import http.client
import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fsd.daemon import mounts
from integration.program import Program, appear, status

WITHIN_S = 20.0


class Service:
    """A daemon in the foreground, with a configuration of its own and somebody who hears what it tells."""

    def __init__(self, program: Program, folder: Path) -> None:
        self.mountpoint = folder / "m"
        self.mountpoint.mkdir()
        self.config = folder / "data.toml"
        self.log = folder / "log"
        self.program = program
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(str(folder / "notify"))
        self.manager.settimeout(WITHIN_S)
        program.environment["NOTIFY_SOCKET"] = str(folder / "notify")
        self.process: subprocess.Popen[str] | None = None

    def configure(self, *lines: str, **limits: float | str) -> None:
        """Write the file."""
        settings = [f'store = "{self.program.store}"', f'mountpoint = "{self.mountpoint}"', *lines, "[limits]"]
        settings += [f"{name} = {value!r}" for name, value in limits.items()]
        self.config.write_text("\n".join(settings) + "\n")

    def start(self) -> None:
        """Start it and wait until it is ready."""
        command = [*self.program.command, "--config", str(self.config), "mount", "--foreground"]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, env=self.program.environment, stderr=log, text=True)
        self.hear(lambda said: said.startswith("READY=1\n"))

    def hear(self, expected: Callable[[str], bool]) -> str:
        """Wait until it tells what is expected."""
        deadline = time.monotonic() + WITHIN_S
        while time.monotonic() < deadline:
            said = self.manager.recv(1000).decode()
            if expected(said):
                return said
        raise AssertionError("not told in time")

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self) -> int:
        assert self.process is not None
        return self.process.wait(WITHIN_S)

    def is_mounted(self) -> bool:
        return mounts.mount_at(self.mountpoint) is not None

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.manager.close()


@pytest.fixture
def service(program: Program, tmp_path: Path) -> Iterator[Service]:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "f").write_bytes(b"content")
    program("init")
    program("commit", tmp_path / "data", "data")
    made = Service(program, tmp_path)
    made.configure()
    yield made
    made.close()


def test_it_stops_when_nobody_uses_the_mount(service: Service) -> None:
    service.start()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, cwd=service.mountpoint) as user:
        service.signal(signal.SIGTERM)
        service.hear(lambda said: said.startswith("STATUS=waiting up to 20 s"))
        # Meanwhile it serves as ever.
        assert (service.mountpoint / "data/main/f").read_bytes() == b"content"
        assert service.is_mounted()
        assert user.stdin is not None
        user.stdin.close()
    assert service.wait() == 0
    assert not service.is_mounted()


def test_it_does_not_wait_for_ever(service: Service) -> None:
    service.configure(stop_wait_s=0.5)
    service.start()
    holder = os.open(service.mountpoint / "data/main", os.O_RDONLY)
    service.signal(signal.SIGTERM)
    assert service.wait() == 0
    assert not service.is_mounted()
    assert "was still in use after 0.5 s" in service.log.read_text()
    with pytest.raises(OSError, match="Transport endpoint is not connected"):
        os.listdir(holder)
    os.close(holder)


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_second_signal_is_not_patient(service: Service, second: signal.Signals) -> None:
    service.configure(stop_wait_s=600)
    service.start()
    holder = os.open(service.mountpoint / "data/main", os.O_RDONLY)
    service.signal(signal.SIGTERM)
    service.hear(lambda said: said.startswith("STATUS=waiting"))
    service.signal(second)
    assert service.wait() == 0
    assert not service.is_mounted()
    os.close(holder)


def test_the_configuration_is_read_again(service: Service) -> None:
    service.configure('cache_size = "100M"', read_deadline_s=60)
    service.start()
    holder = os.open(service.mountpoint / "data/main/f", os.O_RDONLY)
    service.configure('cache_size = "300M"', read_deadline_s=61)
    service.signal(signal.SIGHUP)
    service.hear(lambda said: said.startswith("RELOADING=1\nMONOTONIC_USEC="))
    assert "of 300.0 MiB cached" in service.hear(lambda said: said.startswith("READY=1\n"))
    assert status(service.mountpoint)["cache"]["limit_bytes"] == 300 << 20
    assert "takes effect when it is mounted again: read_deadline_s" in service.log.read_text()
    assert os.read(holder, 10) == b"content"  # the same mount
    os.close(holder)


def test_a_mistake_in_the_configuration_changes_nothing(service: Service) -> None:
    service.configure('cache_size = "100M"')
    service.start()
    service.configure('cache_siez = "300M"')
    service.signal(signal.SIGHUP)
    service.hear(lambda said: said.startswith("READY=1\n"))
    assert status(service.mountpoint)["cache"]["limit_bytes"] == 100 << 20
    assert "the configuration stays as it was" in service.log.read_text()
    assert "did you mean 'cache_size'" in service.log.read_text()


def test_it_gives_signs_of_life_until_its_loop_stands_still(service: Service) -> None:
    service.program.environment["WATCHDOG_USEC"] = "300000"
    service.start()
    for _ in range(3):
        service.hear(lambda said: said == "WATCHDOG=1")
    service.signal(signal.SIGSTOP)
    os.waitid(os.P_PID, service.process.pid, os.WSTOPPED)  # type: ignore[union-attr]  # it was started
    while select.select([service.manager], [], [], 0)[0]:  # what was sent before it stood still
        service.manager.recv(1000)
    assert select.select([service.manager], [], [], 1.0)[0] == []
    service.signal(signal.SIGCONT)
    service.hear(lambda said: said == "WATCHDOG=1")


def test_it_tells_what_it_does(service: Service) -> None:
    service.configure(status_interval_s=0.05)
    service.start()
    assert (service.mountpoint / "data/main/f").read_bytes() == b"content"
    said = service.hear(lambda said: said.startswith("STATUS="))
    assert said.startswith(f"STATUS={service.program.store} at {service.mountpoint}, ")
    assert said.endswith("of 50.0 GiB cached")


def test_it_logs_as_json(service: Service) -> None:
    service.configure('log_format = "json"', 'log_level = "debug"', read_deadline_s=0.2, fetch_attempts=1)
    service.start()
    [pack] = [path for path in (service.program.store / "packs").rglob("*") if path.is_file()]
    pack.unlink()
    with pytest.raises(OSError, match="Input/output error"):
        (service.mountpoint / "data/main/f").read_bytes()
    service.signal(signal.SIGTERM)
    assert service.wait() == 0
    told = [json.loads(line) for line in service.log.read_text().splitlines()]
    assert f"{service.program.store} is mounted at {service.mountpoint}" in [each["message"] for each in told]
    [error] = [each for each in told if each["level"] == "error"]
    assert error["what"].startswith("f (content ")
    assert error["pack"] in pack.name
    where = f"pack {error['pack']}, which should have chunk {error['chunk']}, is gone: "
    assert error["message"] == f"{error['what']}: {where}" + error["message"].split("is gone: ")[1]


def test_what_a_killed_daemon_left_is_cleared(service: Service) -> None:
    service.start()
    config = ("--config", service.config)
    service.program(*config, "umount", "--stale")  # is alive, so it stays
    assert service.is_mounted()
    service.signal(signal.SIGKILL)
    service.wait()
    service.program(*config, "umount", "--stale")
    assert not service.is_mounted()
    service.program(*config, "umount", "--stale")  # nothing is there, which is as it should be


def test_the_daemon_is_asked(service: Service) -> None:
    service.configure(fetch_attempts=1)
    service.start()
    version, ask = service.mountpoint / "data/main", service.program
    assert (version / "f").read_bytes() == b"content"
    assert "no errors" in ask("daemon", "errors", service.mountpoint)
    assert "no files" in ask("daemon", "files", version)
    assert ask("daemon", "log-level", "warning", service.mountpoint) == "warning\n"
    assert ask("daemon", "log-level", "info", service.mountpoint) == "info\n"
    assert "\nfsd_read_bytes_total 7.0\n" in ask("daemon", "metrics", service.mountpoint)
    ask("daemon", "refresh", service.mountpoint)
    (service.program.home / "more").mkdir()
    (service.program.home / "more/g").write_bytes(b"another")
    ask("commit", service.program.home / "more", "more")
    for path in (service.program.store / "packs").rglob("*"):
        if path.is_file():
            path.unlink()
    with pytest.raises(OSError, match="Input/output error"):
        (appear(service.mountpoint / "more/main") / "g").read_bytes()
    [error] = ask.json("daemon", "errors", service.mountpoint)
    assert error["what"].startswith("g (content ")
    assert "is gone" in error["message"]
    done = ask.run("daemon", "errors", service.mountpoint.parent)
    assert (done.returncode, "is in no mount of fsd" in done.stderr) == (4, True)


def test_metrics_are_served_where_prometheus_asks(service: Service) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    service.configure(f'metrics = "127.0.0.1:{port}"')
    service.start()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WITHIN_S)
    connection.request("GET", "/metrics")
    answer = connection.getresponse()
    assert answer.status == 200
    assert f'mountpoint="{service.mountpoint}"' in answer.read().decode()
    connection.close()


def test_an_address_that_is_taken_costs_the_metrics_and_not_the_mount(service: Service) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        service.configure(f'metrics = "127.0.0.1:{port}"')
        service.start()
        assert (service.mountpoint / "data/main/f").read_bytes() == b"content"
    service.signal(signal.SIGTERM)
    assert service.wait() == 0
    assert f"metrics cannot be served at 127.0.0.1 port {port}: Address already in use" in service.log.read_text()


def test_it_is_watched(service: Service) -> None:
    service.start()
    watching = service.program.start("top", service.mountpoint, "--interval", "1", "--count", "2")
    assert watching.stdout is not None
    lines = [watching.stdout.readline()]
    while str(service.mountpoint) not in lines[-1]:
        lines.append(watching.stdout.readline())
    assert (service.mountpoint / "data/main/f").read_bytes() == b"content"
    rest, _ = watching.communicate(timeout=WITHIN_S)
    assert watching.returncode == 0
    [second] = [line.split() for line in rest.split("\n") if line.startswith(str(service.mountpoint))]
    reads, read, unit = second[1:4]
    assert (int(reads) >= 1, float(read) >= 5, unit) == (True, True, "B")
    assert second[-1].endswith("store")
