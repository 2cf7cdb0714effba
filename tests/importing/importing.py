"""Somebody who imports, and what the sources of the tests are made with."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from fsd.importing.archived import Archive
from fsd.importing.importer import History, ImportedHistory, ImportedSnapshot, import_history, import_snapshot
from fsd.importing.items import Item, Listing
from fsd.importing.tar import TarArchive
from fsd.importing.zip import ZipArchive
from fsd.publish.landing import Request
from tests.publish.folders import Counting, Desk, Folder

GIT_USER = {"GIT_AUTHOR_NAME": "Ann", "GIT_AUTHOR_EMAIL": "ann@example.org"}
GIT_USER |= {"GIT_COMMITTER_NAME": "Ann", "GIT_COMMITTER_EMAIL": "ann@example.org"}
FIRST_COMMIT_S = 1_700_000_000


class Importer(Desk):
    """A desk that imports."""

    async def bring(self, source: Listing | Archive, repository: str = "repo", **request: Any) -> ImportedSnapshot:
        """Import a snapshot."""
        self.progress = Counting(wants_total=self.wants_total)
        return await import_snapshot(
            await self.repositories(),
            Request(repository, **request),
            source,
            "the source",
            state=self.state,
            progress=self.progress,
        )

    async def bring_history(self, history: History, repository: str = "repo", **request: Any) -> ImportedHistory:
        """Import a history, and close it."""
        self.progress = Counting()
        try:
            return await import_history(
                await self.repositories(),
                Request(repository, **request),
                history,
                "the source",
                state=self.state,
                progress=self.progress,
            )
        finally:
            history.close()

    async def named(self, name: str, repository: str = "repo") -> bytes:
        """The commit that a branch or tag names."""
        stored = await (await self.repositories()).refs.read(repository, name)
        assert stored is not None, name
        return stored.ref.target


class Listed:
    """A listing in memory, which counts what is read of it."""

    def __init__(self, items: Sequence[Item], contents: dict[bytes, bytes]) -> None:
        self._items = items
        self.contents = contents
        self.was_read: list[bytes] = []
        self.asked_sizes: list[bytes] = []

    def items(self) -> Iterator[Item]:
        """See `Listing`."""
        return iter(self._items)

    def sizes(self, items: Sequence[Item]) -> Sequence[int]:
        """See `Listing`."""
        self.asked_sizes += [item.path for item in items]
        return [len(self.contents[item.path]) for item in items]

    def read(self, items: Sequence[Item]) -> Iterator[bytes]:
        """See `Listing`."""
        for item in items:
            self.was_read.append(item.path)
            yield self.contents[item.path]

    def open(self, item: Item) -> BinaryIO:
        """See `Listing`."""
        self.was_read.append(item.path)
        return io.BytesIO(self.contents[item.path])


def tar_member(path: bytes, content: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """A member for `tar_bytes`."""
    info = tarfile.TarInfo(path.decode("utf-8", "surrogateescape"))
    info.size = len(content)
    for name, value in fields.items():
        setattr(info, name, value)
    return info, content


def tar_bytes(*members: tuple[tarfile.TarInfo, bytes], mode: str = "w") -> bytes:
    """An archive of these members."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=cast("Any", mode), encoding="utf-8", errors="surrogateescape") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def tar_of(folder: Folder) -> bytes:
    """An archive of a folder, in no order of trees."""
    members = []
    for path, item in sorted(folder.items(), reverse=True):
        match item.kind:
            case "d":
                members.append(tar_member(path, type=tarfile.DIRTYPE, mode=0o755))
            case "l":
                target = item.data.decode("utf-8", "surrogateescape")
                members.append(tar_member(path, type=tarfile.SYMTYPE, linkname=target))
            case _:
                members.append(tar_member(path, item.data, mode=0o755 if item.kind == "x" else 0o644))
    return tar_bytes(*members)


def tar(data: bytes) -> TarArchive:
    """The archive, opened."""
    return TarArchive(io.BytesIO(data), "a.tar", len(data))


def zip_of(folder: Folder) -> bytes:
    """A zip archive of a folder."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, item in sorted(folder.items(), reverse=True):
            info = zipfile.ZipInfo(path.decode() + ("/" if item.kind == "d" else ""))
            info.create_system = 3
            mode = {"d": 0o040755, "l": 0o120777, "x": 0o100755, "f": 0o100644}[item.kind]
            info.external_attr = mode << 16
            archive.writestr(info, item.data)
    return out.getvalue()


def zipped(data: bytes) -> ZipArchive:
    """The archive, opened."""
    return ZipArchive(io.BytesIO(data), "a.zip")


class GitFolder:
    """A Git work tree whose commits are a day apart."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self._commits = 0
        top.mkdir(parents=True, exist_ok=True)
        self("init", "-q", "-b", "main")
        self("config", "commit.gpgsign", "false")

    def __call__(self, *arguments: str) -> str:
        """Run git."""
        time = f"{FIRST_COMMIT_S + 86_400 * self._commits} +0000"
        times = {"GIT_AUTHOR_DATE": time, "GIT_COMMITTER_DATE": time}
        done = subprocess.run(
            ["git", "-C", self.top, *arguments],
            check=True,
            capture_output=True,
            text=True,
            env=os.environ | GIT_USER | times | {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"},
        )
        return done.stdout.strip()

    def commit(self, message: str, *tags: str) -> str:
        """Commit all that is there; the commit's name."""
        self("add", "-A")
        self("commit", "-q", "--allow-empty", "-m", message)
        self._commits += 1
        for tag in tags:
            self("tag", tag)
        return self("rev-parse", "HEAD")
