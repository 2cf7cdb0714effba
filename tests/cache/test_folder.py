"""Who holds the cache's folder."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fsd.cache.folder
from fsd.cache.folder import CacheFolder
from fsd.errors import ConflictError, UsageError

HOLD = """
import sys
import time
from pathlib import Path
from fsd.cache.folder import CacheFolder
folder = CacheFolder(Path(sys.argv[1]), "/mnt/data")
print("held", flush=True)
sys.stdin.read()
"""


def test_two_processes_cannot_have_one_folder(tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ConflictError) as caught:
            CacheFolder(directory, "/mnt/other")
        assert caught.value.message == f"cache folder {directory} is in use by process {holder.pid} (/mnt/data)"
        assert caught.value.hint == "use another --cache-dir or umount it"
        holder.kill()
    CacheFolder(directory, "/mnt/other").close()


def test_a_folder_that_is_being_closed_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = CacheFolder(tmp_path, "/mnt/a")
    folder.begin_closing()
    monkeypatch.setattr(time, "sleep", lambda _: folder.close())
    CacheFolder(tmp_path, "/mnt/b").close()


def test_it_is_not_waited_for_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = CacheFolder(tmp_path, "/mnt/a")
    folder.begin_closing()
    monkeypatch.setattr(fsd.cache.folder, "CLOSING_WAIT_S", 0.0)
    with pytest.raises(ConflictError, match=r"\(closing\)"):
        CacheFolder(tmp_path, "/mnt/b")
    folder.close()


def test_the_folder_is_private(tmp_path: Path) -> None:
    folder = CacheFolder(tmp_path / "deep" / "cache", "")
    assert stat.S_IMODE(os.stat(tmp_path / "deep" / "cache").st_mode) == 0o700
    folder.close()


def test_another_version_begins_anew(tmp_path: Path) -> None:
    CacheFolder(tmp_path, "").close()
    (tmp_path / "mirrors").mkdir()
    (tmp_path / "mine").mkdir()
    CacheFolder(tmp_path, "").close()
    assert (tmp_path / "mirrors").exists()
    (tmp_path / "version").write_text("99\n")
    CacheFolder(tmp_path, "").close()
    assert not (tmp_path / "mirrors").exists()
    assert (tmp_path / "mine").exists()


def test_a_folder_that_cannot_be_is_the_users_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="cannot use"):
        CacheFolder(tmp_path / "file" / "cache", "")
