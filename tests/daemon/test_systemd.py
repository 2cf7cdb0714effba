"""The units are ones that systemd understands to the last key, and do not hide the mount."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

SYSTEMD = Path(__file__).parents[2] / "systemd"
SYSTEM_UNIT = SYSTEMD / "system" / "fsd@.service"
USER_UNIT = SYSTEMD / "user" / "fsd.service"

NAMESPACE_SETTINGS = re.compile(
    r"^(Private(Tmp|Devices|Users|Mounts|IPC)|Protect(System|Home|Proc|Kernel\w+|ControlGroups)|ProcSubset"
    r"|(ReadWrite|ReadOnly|Inaccessible|Exec|NoExec)Paths"
    r"|Bind(ReadOnly)?Paths|TemporaryFileSystem|MountFlags|MountAPIVFS|Root\w+|DynamicUser)=",
    re.MULTILINE,
)

MOST_EXPOSURE = 3.6
"""What systemd-analyze security says; every line that it complains of is needed, or would hide the mount."""

needs_analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")


def runnable(unit: Path, folder: Path) -> Path:
    """A copy that names programs which are there, as systemd demands, and that is no template."""
    text, replaced = re.subn(r"(?m)^(Exec\w+=[+-]*)(/opt/fsd/bin/\w+|fsd) ", r"\1/bin/true ", unit.read_text())
    assert replaced >= 4
    copy = folder / unit.name.replace("@", "@name")
    copy.write_text(text)
    return copy


def analyze(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"XDG_RUNTIME_DIR": str(folder)}
    command = ["systemd-analyze", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@needs_analyze
@pytest.mark.parametrize(("unit", "manager"), [(SYSTEM_UNIT, "--system"), (USER_UNIT, "--user")])
def test_systemd_has_nothing_to_say_about_it(tmp_path: Path, unit: Path, manager: str) -> None:
    # It exits with 0 for keys that it does not know, but mentions them.
    done = analyze(manager, "verify", "--man=no", runnable(unit, tmp_path), folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_analyze
def test_it_is_exposed_no_more_than_it_must_be(tmp_path: Path) -> None:
    unit = runnable(SYSTEM_UNIT, tmp_path)
    found = analyze("security", "--offline=yes", "--threshold=10", unit, folder=tmp_path).stdout
    level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", found)
    assert level is not None
    assert float(level[1]) <= MOST_EXPOSURE, found


@pytest.mark.parametrize("unit", [SYSTEM_UNIT, USER_UNIT], ids=["system", "user"])
def test_it_does_not_hide_its_mount(unit: Path) -> None:
    assert NAMESPACE_SETTINGS.search(unit.read_text()) is None


@pytest.mark.parametrize("unit", [SYSTEM_UNIT, USER_UNIT], ids=["system", "user"])
def test_it_waits_for_the_mount_and_clears_up_after_a_crash(unit: Path) -> None:
    text = unit.read_text()
    assert "Type=notify\n" in text
    assert "Restart=on-failure\n" in text
    assert [line.split("=")[0] for line in text.split("\n") if line.endswith("umount --stale")] == [
        "ExecStartPre",
        "ExecStopPost",
    ]
