"""The unit is one that systemd understands to the last key."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "systemd" / "fsd@.service"

NAMESPACE_SETTINGS = re.compile(
    r"^(Private(Tmp|Devices|Users|Mounts)|Protect\w+|(ReadWrite|ReadOnly|Inaccessible|Exec|NoExec)Paths"
    r"|Bind(ReadOnly)?Paths|TemporaryFileSystem|MountFlags|MountAPIVFS|Root\w+|DynamicUser)=",
    re.MULTILINE,
)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
def test_systemd_has_nothing_to_say_about_it(tmp_path: Path) -> None:
    # It must name a program that is there; and it exits with 0 for keys that it does not know, but mentions them.
    text = UNIT.read_text()
    for program in ("/opt/fsd/bin/fsd", "fusermount3"):
        assert program in text
        text = text.replace(program, "/bin/true")
    (tmp_path / UNIT.name).write_text(text)
    command = ["systemd-analyze", "verify", "--man=no", tmp_path / "fsd@name.service"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_it_does_not_hide_its_mount() -> None:
    assert NAMESPACE_SETTINGS.search(UNIT.read_text()) is None


def test_it_waits_for_the_mount_and_clears_up_after_a_crash() -> None:
    text = UNIT.read_text()
    assert "Type=notify\n" in text
    assert "Restart=on-failure\n" in text
    assert text.count("=-fusermount3 -uzq ${FSD_MOUNTPOINT}\n") == 2
