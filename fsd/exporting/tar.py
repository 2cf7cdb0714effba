"""A version as a tar archive: written from its start to its end, the same bytes whenever and wherever it is made."""

from __future__ import annotations

import tarfile
from collections.abc import Callable

import trio

from fsd.checkout.checkout import Progress, Version
from fsd.checkout.contents import Contents
from fsd.exporting.exported import Exported
from fsd.exporting.ordered import parts_of
from fsd.format.model import Entry, Kind
from fsd.ids import Buffer

_BLOCK_BYTES = 512
_RECORD_BYTES = 10_240
"""A multiple of this is what an archive has, by tradition."""
_END = bytes(2 * _BLOCK_BYTES)

Write = Callable[[Buffer], object]
"""Takes all of it, in a thread."""


async def export_tar(
    version: Version, contents: Contents, write: Write, time_us: int, *, progress: Progress | None = None
) -> Exported:
    """Write the version as an archive in the format of POSIX.1-2001 (pax). All is of the time `time_us`.

    Raises what reading raises, and OSError where it cannot be written.
    """
    done, written = Exported(), 0

    async def put(data: list[Buffer]) -> None:
        nonlocal written
        whole = b"".join(data)
        written += len(whole)
        await trio.to_thread.run_sync(write, whole)

    async with parts_of(version, contents) as parts:
        async for part in parts:
            data: list[Buffer] = [_header(part.entry, time_us // 1_000_000)] if part.start == 0 else []
            data += part.content
            if part.is_last:
                data.append(bytes(-part.entry.size % _BLOCK_BYTES if part.entry.kind is Kind.FILE else 0))
            await put(data)
            done.note(part, progress)
    await put([_END, bytes(-(written + len(_END)) % _RECORD_BYTES)])
    return done


def _header(entry: Entry, time_s: int) -> bytes:
    info = tarfile.TarInfo(entry.path.decode("utf-8", "surrogateescape"))
    info.mtime = time_s
    match entry.kind:
        case Kind.DIRECTORY:
            info.type, info.mode = tarfile.DIRTYPE, 0o755
        case Kind.SYMLINK:
            info.type, info.mode = tarfile.SYMTYPE, 0o777
            info.linkname = entry.target.decode("utf-8", "surrogateescape")
        case Kind.FILE:
            info.mode = 0o755 if entry.executable else 0o644
            info.size = entry.size
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
