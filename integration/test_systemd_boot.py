"""The service where it lives: installed with script/install on a machine that boots, and everything that can happen to
it there. One machine for all of it, in this order.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.machine import Machine, needs_machine
from integration.wheels import REPOSITORY, make_wheels

pytestmark = [needs_machine, pytest.mark.slow]

READ = "cat /fsd/data/v1/f"
BACK_WITHIN_S = 3.0

CONFIG = """\
store = "file:///srv/store"
mountpoint = "/fsd"
allow_other = true
cache_size = "100M"

[limits]
stop_wait_s = 1.5
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_wheels(tmp_path_factory.mktemp("wheels"), extras="")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Iterator[Machine]:
    """A machine that has never been started."""
    made = Machine(tmp_path_factory.mktemp("machine"), f"{REPOSITORY}:/src", f"{wheel.parent}:/wheels")
    try:
        made.install()
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def machine(installed: Machine, wheel: Path) -> Machine:
    """It runs, fsd is installed on it, and there is a store for the service."""
    installed.boot()
    install = f"/src/script/install --wheel /wheels/{wheel.name} --extras ''"
    installed(f"cd / && PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels {install}")
    installed("mkdir -p /srv/data && echo content >/srv/data/f && head -c 20000000 /dev/urandom >/srv/data/large")
    installed("cd / && fsd --store /srv/store init && fsd --store /srv/store commit /srv/data data --tag v1")
    installed("chown -R fsd:fsd /srv/store")
    (installed.root / "etc/fsd/data.toml").write_text(CONFIG)
    installed("fsd config check && systemctl daemon-reload")
    return installed


def wait_active(machine: Machine) -> None:
    machine.soon(lambda: machine.run("systemctl", "is-active", "fsd@data").stdout == "active\n", "the service")


def is_read(machine: Machine) -> bool:
    return machine.run("timeout", "1", *READ.split()).stdout == "content\n"


def main_pid(machine: Machine) -> str:
    return machine("systemctl show -P MainPID fsd@data")


# Each of these takes a minute or two by itself, on a busy machine, and a test may take three.


def test_a_wheel_is_built(wheel: Path) -> None:
    assert wheel.exists()


def test_a_system_is_made(installed: Machine) -> None:
    assert (installed.root / "usr/bin/systemctl").exists()


def test_the_script_installs(machine: Machine) -> None:
    assert machine("fsd --version").startswith("fsd ")


def test_it_is_there_for_everybody_once_it_is_started(machine: Machine) -> None:
    machine("systemctl enable --now fsd@data")
    assert machine(READ) == "content"  # at once: started means that the mount answers
    assert machine(f"setpriv --reuid=65534 --clear-groups {READ}") == "content"
    status = machine("systemctl show -P StatusText fsd@data")
    assert status.startswith("file:///srv/store at /fsd, ")
    assert status.endswith("of 100.0 MiB cached")
    source, kind = machine("findmnt -no SOURCE,FSTYPE /fsd").split()
    assert (source, kind) == ("file:///srv/store", "fuse.fsd")


def test_the_daemon_has_no_more_rights_than_it_takes(machine: Machine) -> None:
    lines = machine(f"cat /proc/{main_pid(machine)}/status").split("\n")
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert set(status["Uid"].split()) == {machine("id -u fsd")}
    cap_sys_admin = f"{1 << 21:016x}"
    assert {status[name] for name in ("CapEff", "CapPrm", "CapBnd")} == {cap_sys_admin}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert machine("stat -c %a:%U /var/cache/fsd/data") == "700:fsd"


def test_commands_find_the_store_in_its_file(machine: Machine) -> None:
    assert "data" in machine("fsd ls")


def test_killed_it_is_back_soon(machine: Machine) -> None:
    wait_active(machine)
    machine("systemctl kill --signal=KILL --kill-who=main fsd@data")
    machine.soon(lambda: not is_read(machine), "that it is gone", within_s=5)
    assert machine.soon(lambda: is_read(machine), "that it is back") < BACK_WITHIN_S
    assert machine("grep -c fuse.fsd /proc/self/mountinfo") == "1"


def test_a_loop_that_stands_still_is_noticed(machine: Machine) -> None:
    folder = "/run/systemd/system/fsd@data.service.d"
    machine(f"mkdir -p {folder} && printf '[Service]\\nWatchdogSec=1\\n' >{folder}/watchdog.conf")
    machine("systemctl daemon-reload && systemctl restart fsd@data")
    wait_active(machine)
    stopped = main_pid(machine)
    machine(f"kill -STOP {stopped}")
    machine.soon(lambda: is_read(machine) and main_pid(machine) != stopped, "another daemon")
    assert "Watchdog timeout" in machine("journalctl --no-pager -u fsd@data")
    machine(f"rm -r {folder} && systemctl daemon-reload && systemctl restart fsd@data")


def test_reloaded_it_has_another_limit_and_the_same_mount(machine: Machine) -> None:
    wait_active(machine)
    before = main_pid(machine)
    machine("sed -i s/100M/200M/ /etc/fsd/data.toml && systemctl reload fsd@data")
    shown = "systemctl show -P StatusText fsd@data"
    machine.soon(lambda: machine(shown).endswith("of 200.0 MiB cached"), "the new limit")
    machine("echo 'cache_siez = 1' >>/etc/fsd/data.toml")
    assert machine.run("systemctl", "reload", "fsd@data").returncode != 0
    assert "unknown key 'cache_siez'" in machine("journalctl --no-pager -u fsd@data")
    machine("sed -i /cache_siez/d /etc/fsd/data.toml")
    assert main_pid(machine) == before
    assert machine(READ) == "content"


def test_restarted_under_load(machine: Machine) -> None:
    reader = "while :; do cmp /srv/data/large /fsd/data/v1/large && echo same; done"
    machine(f"systemd-run --collect --unit=load sh -c '{reader}'")
    for _ in range(2):
        wait_active(machine)
        machine("systemctl restart fsd@data")
        assert machine(READ) == "content"
    machine.soon(lambda: "same" in machine("journalctl --no-pager -u load"), "something that was read")
    machine("systemctl stop load")
    assert "differ" not in machine("journalctl --no-pager -u load")


def test_stopped_it_waits_for_readers_but_not_for_ever(machine: Machine) -> None:
    wait_active(machine)
    # Not as a unit: of its working directory systemd would know that it has to end first.
    holder = machine("cd /fsd/data/v1 && { setsid sleep 600 >/dev/null 2>&1 & } && echo $!")
    machine("systemctl stop fsd@data")
    assert machine("ls -A /fsd") == ""
    assert machine("grep -c fuse.fsd /proc/self/mountinfo || true") == "0"
    assert "/fsd was still in use after 1.5 s" in machine("journalctl --no-pager -u fsd@data")
    machine(f"kill {holder}")


def test_who_needs_a_path_below_it_comes_after_it(machine: Machine) -> None:
    unit = (
        f"[Unit]\nRequiresMountsFor=/fsd/data\n[Service]\nType=oneshot\nExecStart={READ.replace('cat', '/bin/cat')}\n"
    )
    (machine.root / "etc/systemd/system/needs.service").write_text(unit)
    machine("systemctl daemon-reload && systemctl start needs")  # the service was stopped
    wait_active(machine)
    assert machine("systemctl is-active fsd.mount") == "active"


def test_after_a_boot_it_is_there(machine: Machine) -> None:
    machine.stop()
    machine.boot()
    wait_active(machine)
    assert machine(READ) == "content"


def test_a_line_of_fstab(machine: Machine) -> None:
    machine("systemctl disable --now fsd@data && mv /etc/fsd/data.toml /srv/ && systemctl daemon-reload")
    machine("chown -R root: /srv/store && echo 'file:///srv/store /fsd fsd allow_other,nofail 0 0' >/etc/fstab")
    machine("systemctl daemon-reload && systemctl start fsd.mount")
    assert machine(READ) == "content"
    machine("systemctl stop fsd.mount && rm /etc/fstab && systemctl daemon-reload")


def test_uninstalled_nothing_is_left(machine: Machine) -> None:
    machine("mv /srv/data.toml /etc/fsd/ && chown -R fsd: /srv/store && systemctl daemon-reload")
    machine("systemctl enable --now fsd@data && cd / && /src/script/uninstall --purge")
    places = "/opt/fsd /usr/local/bin/fsd /sbin/mount.fsd /etc/fsd /fsd /var/cache/fsd /var/lib/fsd"
    assert machine(f"ls -d {places} 2>/dev/null || true") == ""
    assert machine("find /usr/local /etc -name '*fsd*' | grep -v needs || true") == ""
    assert machine.run("id", "fsd").returncode != 0
    assert Path(machine.root / "srv/store/fsd.json").exists()
