"""The contents of items, as the publishing pipeline reads them: checked for length and digest, large ones streamed."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence

from blake3 import blake3

from fsd.format.chunker import ChunkerParams
from fsd.importing.digests import Check, check_content
from fsd.importing.items import Item, Listing, Readable, too_short
from fsd.publish.ingest import Window, Windows, cut, window_bytes
from fsd.publish.source import Found

_WORD_BYTES = 8


def found_of(item: Item, number: int) -> Found:
    """The item as publishing knows entries. The inode is its `number` among the items; the times stand for its token,
    so that an upload of the same content goes on where it was interrupted, and no other does."""
    directory, _, name = item.path.rpartition(b"/")
    token = item.token.encode(errors="surrogateescape") or secrets.token_bytes(2 * _WORD_BYTES)
    stamp = hashlib.sha256(token).digest()
    first, second = (int.from_bytes(stamp[at : at + _WORD_BYTES], "little") >> 1 for at in (0, _WORD_BYTES))
    return Found(directory, name, item.size, first, second, number, item.mode)


class ItemFiles:
    """A `fsd.publish.ingest.Source` over a listing; `items` are those under way, by number."""

    def __init__(self, listing: Listing, items: Mapping[int, Item]) -> None:
        self._listing = listing
        self._items = items

    def read_files(self, files: Sequence[Found]) -> Iterator[bytes]:
        """See `Source`. Raises CorruptDataError for a content that is not as was said."""
        items = [self._items[found.inode] for found in files]
        for item, data in zip(items, self._listing.read(items) if items else (), strict=True):
            if len(data) != item.size:
                raise too_short(item.path, item.size, len(data))
            check_content(item.path, data, item.digest)
            yield data

    def read_link(self, found: Found) -> bytes:
        """See `Source`."""
        return self._items[found.inode].target

    def open_large(self, found: Found, params: ChunkerParams) -> Windows:
        """See `Source`."""
        item = self._items[found.inode]
        return StreamedFile(item, lambda: self._listing.open(item), params)


class StreamedFile:
    """A large file that comes once, from its start to its end: a `fsd.publish.ingest.Windows`."""

    def __init__(self, item: Item, begin: Callable[[], Readable], params: ChunkerParams) -> None:
        """Opens nothing yet."""
        self._item = item
        self._begin = begin
        self._file: Readable | None = None
        self._params = params
        self._window_bytes = window_bytes(params)
        self._left = item.size
        self._rest: bytes | memoryview = b""
        """Read, and not cut yet: the window's last chunk may go on."""
        self._content = blake3()
        self._check = None if item.digest is None else Check(item.digest, item.size)

    def next_window(self) -> Window:
        """See `Windows`. Raises CorruptDataError for a content that is not as was said."""
        if self._file is None:
            self._file = self._begin()
        data = bytearray(min(self._window_bytes, self._left))
        view, at = memoryview(data), len(self._rest)
        view[:at] = self._rest
        self._fill(view, at)
        if self._check is not None:
            self._check.update(view[at:])
        last = len(data) == self._left
        if last:
            self._end()
        lengths = cut(self._params, data, last=last)
        consumed = sum(lengths)
        self._content.update(view[:consumed])
        self._rest = view[consumed:]
        self._left -= consumed
        return Window(data, lengths, False, self._content.digest() if last else None)

    def close(self) -> None:
        """Idempotent."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _fill(self, view: memoryview, at: int) -> None:
        assert self._file is not None
        while at < len(view):
            part = self._file.read(len(view) - at)
            if not part:
                size = self._item.size
                raise too_short(self._item.path, size, size - self._left + at)
            view[at : at + len(part)] = part
            at += len(part)

    def _end(self) -> None:
        assert self._file is not None
        if self._file.read(1):
            raise too_short(self._item.path, self._item.size, self._item.size + 1)
        if self._check is not None:
            self._check.finish(self._item.path)
