"""Bookmarks of uploads: how far the packs of large files got, so that a later try goes on from there.

A pack of small files that a kill interrupted is begun again: that costs no more than the pack. A large file's pack may
be a hundred gigabytes less, so its upload is written down while it is under way, in a file of its own:

    <random>.upload      JSON: what is being uploaded, under which pack, and what the store wrote into its bookmark

What is being uploaded is named by a hash of the file's path and status and of the pack's first chunk. Reading the same
file again gives the same chunks in the same order, and so the same pack: whether it does is the store's to check
(`Store.upload`). The publisher who uses a bookmark holds a lock on its file: another one begins anew.

What the store wrote may be a secret: the files are for their owner alone. Like all of these notes they are hints;
losing one costs an upload.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from tempfile import mkstemp

from fsd.ids import ID_BYTES, PACK_ID_BYTES, new_pack_id

SUFFIX = ".upload"

KEPT_S = 7 * 86_400
"""Google forgets an upload after a week."""

_PADDED_BYTES = 1024
"""Written at once and never shorter than before: so it is never half of one and half of another."""

_MAX_BYTES = 64 * 1024


class UploadBookmark:
    """A `fsd.stores.base.Bookmark` for one pack. It becomes a file when something is written."""

    def __init__(self, folder: Path, what: bytes, pack: bytes) -> None:
        self.pack = pack
        """The id of the pack, which was given to it when it was first begun."""
        self._folder = folder
        self._what = what
        self._path: Path | None = None
        self._fd = -1
        self._text = ""

    @classmethod
    def open(cls, path: Path, what: bytes) -> UploadBookmark | None:
        """The bookmark in a file, if it is of `what` and nobody else uses it."""
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None
        found = None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Only now is it certain what it says: whoever used it last may have finished.
            if os.fstat(fd).st_nlink:
                found = _decode(os.pread(fd, _MAX_BYTES, 0))
        except OSError:
            pass
        if found is None or found[0] != what:
            os.close(fd)
            return None
        bookmark = cls(path.parent, what, found[1])
        bookmark._path, bookmark._fd, bookmark._text = path, fd, found[2]
        return bookmark

    def read(self) -> str:
        """What the store wrote, now or in an earlier try."""
        return self._text

    def write(self, text: str) -> None:
        """Keep it, if that can be done."""
        self._text = text
        if not text:
            self.remove()
            return
        with suppress(OSError):
            if self._fd < 0:
                self._folder.mkdir(mode=0o700, exist_ok=True)
                self._fd, name = mkstemp(dir=self._folder, suffix=SUFFIX)
                self._path = Path(name)
                fcntl.flock(self._fd, fcntl.LOCK_EX)
            body = json.dumps({"what": self._what.hex(), "pack": self.pack.hex(), "text": text})
            size = max(_PADDED_BYTES, os.fstat(self._fd).st_size)
            os.pwrite(self._fd, body.encode().ljust(size), 0)

    def remove(self) -> None:
        """The pack is durable, or will never be. Idempotent."""
        if self._path is not None:
            with suppress(OSError):
                os.unlink(self._path)
        self.close()

    def close(self) -> None:
        """Leave it to a later try. Idempotent."""
        fd, self._fd = self._fd, -1
        self._path = None
        if fd >= 0:
            os.close(fd)


class Bookmarks:
    """Those of one store on this machine."""

    def __init__(self, folder: Path) -> None:
        """Opens nothing yet."""
        self._folder = folder
        self._found: dict[bytes, Path] = {}

    def open(self) -> None:
        """See what earlier publishers left, and remove what is too old. Blocks."""
        self._found = {}
        for path in self._folder.glob(f"*{SUFFIX}"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > KEPT_S:
                    path.unlink()
                elif (found := _decode(path.read_bytes()[:_MAX_BYTES])) is not None:
                    self._found[found[0]] = path

    def take(self, what: bytes) -> UploadBookmark:
        """The bookmark of an earlier try at uploading `what` (32 bytes), or a new one with a new pack."""
        path = self._found.pop(what, None)
        found = None if path is None else UploadBookmark.open(path, what)
        return UploadBookmark(self._folder, what, new_pack_id()) if found is None else found


def _decode(data: bytes) -> tuple[bytes, bytes, str] | None:
    """What is being uploaded, the pack, and the store's text; None for what is no bookmark."""
    try:
        body = json.loads(data)
        what, pack, text = bytes.fromhex(body["what"]), bytes.fromhex(body["pack"]), body["text"]
    except (ValueError, KeyError, TypeError):
        return None
    whole = len(what) == ID_BYTES and len(pack) == PACK_ID_BYTES and isinstance(text, str)
    return (what, pack, text) if whole else None
