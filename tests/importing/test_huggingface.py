"""Snapshots of Hugging Face's cache, laid out by hand as huggingface_hub does."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from fsd.errors import CorruptDataError, NotFoundError, UsageError
from fsd.importing.huggingface import Snapshot, snapshot_folder
from fsd.publish.source import UnreadableError
from tests.importing.importing import Importer
from tests.publish.folders import DIRECTORY, file

LARGE = os.urandom(3_000_000)
REVISION = "a" * 40


class HubCache:
    """A repository in the cache."""

    def __init__(self, place: Path, name: str = "models--team--net") -> None:
        self.top = place / "hub" / name
        self.blobs = self.top / "blobs"
        self.blobs.mkdir(parents=True)

    def add(self, revision: str, path: str, data: bytes, *, large: bool = False) -> Path:
        """A file of a snapshot; its blob."""
        name = hashlib.sha256(data).hexdigest() if large else hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        blob = self.blobs / name
        blob.write_bytes(data)
        link = self.snapshot(revision) / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
        return blob

    def snapshot(self, revision: str = REVISION) -> Path:
        """Where a snapshot is."""
        return self.top / "snapshots" / revision


@pytest.fixture
def hub(tmp_path: Path) -> HubCache:
    """One snapshot."""
    hub = HubCache(tmp_path)
    hub.add(REVISION, "config.json", b"{}")
    hub.add(REVISION, "onnx/model.bin", LARGE, large=True)
    return hub


async def test_links_are_followed(tmp_path: Path, hub: HubCache) -> None:
    desk = Importer(tmp_path)
    done = await desk.bring(Snapshot(hub.snapshot()))
    expected = {b"config.json": file(b"{}"), b"onnx": DIRECTORY, b"onnx/model.bin": file(LARGE)}
    assert await desk.read_back(done.landed.commit) == expected
    hub.add("b" * 40, "config.json", b'{"new": 1}')
    hub.add("b" * 40, "onnx/model.bin", LARGE, large=True)
    second = await desk.bring(Snapshot(hub.snapshot("b" * 40)))
    assert (second.content.files_read, second.content.known_bytes) == (1, len(LARGE))


async def test_files_that_are_no_links(tmp_path: Path, hub: HubCache) -> None:
    (hub.snapshot() / "copied").write_bytes(b"copied")
    desk = Importer(tmp_path)
    done = await desk.bring(Snapshot(hub.snapshot()))
    assert (await desk.read_back(done.landed.commit))[b"copied"] == file(b"copied")


@pytest.mark.parametrize("large", [False, True])
async def test_a_damaged_blob(tmp_path: Path, large: bool) -> None:
    hub = HubCache(tmp_path)
    data = LARGE if large else b"small"
    hub.add(REVISION, "d/f", data, large=large).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(CorruptDataError, match="d/f is damaged where it comes from"):
        await Importer(tmp_path).bring(Snapshot(hub.snapshot()))


async def test_a_blob_that_is_missing(tmp_path: Path) -> None:
    hub = HubCache(tmp_path)
    hub.add(REVISION, "f", b"1").unlink()
    with pytest.raises(UnreadableError, match=r"cannot read /.*/f: No such file.*download the snapshot again"):
        await Importer(tmp_path).bring(Snapshot(hub.snapshot()))


async def test_links_that_lead_elsewhere(tmp_path: Path, hub: HubCache) -> None:
    (hub.snapshot() / "passwd").symlink_to("/etc/passwd")
    with pytest.raises(UnreadableError, match="passwd leads to /etc/passwd, which is none of the blobs"):
        await Importer(tmp_path).bring(Snapshot(hub.snapshot()))
    (hub.snapshot() / "passwd").unlink()
    (hub.snapshot() / "etc").symlink_to("/etc")
    with pytest.raises(UnreadableError, match="etc leads to a folder"):
        await Importer(tmp_path).bring(Snapshot(hub.snapshot()))


def test_which_snapshot_is_meant(tmp_path: Path, hub: HubCache) -> None:
    assert snapshot_folder(hub.top) == hub.snapshot()
    assert snapshot_folder(hub.snapshot()) == hub.snapshot()
    assert snapshot_folder(tmp_path) is None
    hub.add("b" * 40, "config.json", b"{}")
    with pytest.raises(UsageError, match=r"several snapshots: a+, b+; name one"):
        snapshot_folder(hub.top)
    (hub.top / "refs").mkdir()
    (hub.top / "refs" / "main").write_text("b" * 40)
    assert snapshot_folder(hub.top) == hub.snapshot("b" * 40)
    empty = HubCache(tmp_path, "datasets--team--none")
    (empty.top / "snapshots").mkdir()
    with pytest.raises(NotFoundError, match="has no snapshot"):
        snapshot_folder(empty.top)
