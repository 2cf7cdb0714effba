"""Packs being filled and uploaded.

Small files are packed together in tree order, so that neighbours arrive together; a large file's new chunks get a pack
of their own, in file order: with no chunk known before, the pack begins with the file, byte for byte if it does not
compress. A pack's chunks go into the store as they come (`Store.upload`), so a pack is never in memory as a whole; one
is filled while others are on their way.

`add` gives a chunk its place at once and cannot wait. What it leaves behind is handed on by `relieve`, which waits
while too many bytes are queued for the store: whoever adds calls it every now and then.

Invariant: a pack is noted as durable, for the objects that wait for it and in the index of known chunks, only when its
upload has finished. An empty pack is never begun. A large file's own pack has a bookmark: another try to publish the
file makes the same pack under the same id, and its upload goes on where it broke off.
"""

from __future__ import annotations

import trio

from fsd.format.keys import pack_key
from fsd.format.limits import MAX_PACK_CHUNKS
from fsd.format.model import Placement
from fsd.format.pack import encode_end, encode_row
from fsd.ids import Buffer, content_id, new_pack_id
from fsd.limits import MIB, Limits
from fsd.publish.bookmarks import UploadBookmark
from fsd.publish.known import KnownChunks
from fsd.publish.progress import Progress
from fsd.publish.writer import DeferredWriter, Order
from fsd.stores.base import Store

SHARED_PACK_CHUNKS = 64 * 1024
"""A pack of tiny files ends after this many: its contents (2.5 MiB) are read whole, and its presence is a bitmap."""

OWN_PACK_CHUNKS = 512 * 1024
"""A file with more new chunks than this (18 GiB at the usual size) gets several packs: its contents (20 MiB) and the
objects that wait for the pack (40 MiB) are in memory until it ends. A store that cannot take up an upload loses no more
than such a pack by a kill."""

assert SHARED_PACK_CHUNKS < OWN_PACK_CHUNKS < MAX_PACK_CHUNKS

_PART_BYTES = 4 * MIB
"""Chunks are joined into parts of at least this: a part is a hop to a thread, which is 0.1 ms."""

_LONG_RUN_BYTES = MIB
"""A run of a large file's bytes that is as long as this is written from where it was read: copying it would take the
event loop as long as hashing it takes a thread."""


class _Run:
    """Bytes of one buffer that go into a pack together."""

    __slots__ = ("data", "end", "start")

    def __init__(self, data: Buffer, start: int, end: int) -> None:
        self.data = data
        self.start = start
        self.end = end

    def view(self) -> memoryview:
        return memoryview(self.data)[self.start : self.end]


class OpenPack:
    """A pack that is being filled. Made by `Packer`."""

    def __init__(self, number: int, bookmark: UploadBookmark | None = None) -> None:
        self.number = number
        self.bookmark = bookmark
        """Where it is kept how far its upload got, for a large file's own pack."""
        self.id = new_pack_id() if bookmark is None else bookmark.pack
        self.stored_bytes = 0
        self.plain_bytes = 0
        self.chunks = 0
        self.rows = bytearray()
        self.pending: list[_Run] = []
        self.pending_bytes = 0
        self.is_ended = False
        self.uploads: trio.MemorySendChannel[Buffer] | None = None
        """Set once its upload has begun."""


class Packer:
    """All packs of one publisher. For the tasks of one trio loop."""

    def __init__(
        self,
        store: Store,
        limits: Limits,
        known: KnownChunks,
        order: Order,
        writer: DeferredWriter,
        progress: Progress,
        nursery: trio.Nursery,
    ) -> None:
        """Uploads run in `nursery`."""
        self._store = store
        self._limits = limits
        self._known = known
        self._order = order
        self._writer = writer
        self._progress = progress
        self._nursery = nursery
        self._shared: OpenPack | None = None
        self._own: OpenPack | None = None
        self._own_file = b""
        self._unrelieved: list[OpenPack] = []
        """Packs with pending chunks, or ended, in the order in which they were begun."""
        # Two packs may be open at once, the shared one and a large file's own: with less, one would wait for the other.
        self._slots = trio.Semaphore(max(2, limits.upload_tasks))
        self._queued_bytes = 0
        self._room = trio.Event()
        self.stored_bytes = 0
        """Of all chunks added."""
        self.packs = 0

    # --- filling

    def add_shared(self, chunk: bytes, length: int, stored: Buffer, at: int = 0) -> Placement:
        """Place a chunk of `length` plain bytes among those of other files.

        `at` is where `stored` begins in the buffer it is a view of, if it is a view.
        """
        pack = self._shared
        if pack is not None and (
            pack.stored_bytes + len(stored) > self._limits.pack_bytes or pack.chunks >= SHARED_PACK_CHUNKS
        ):
            self.end_shared()
            pack = None
        if pack is None:
            pack = self._shared = self._begin()
        return self._add(pack, chunk, length, stored, at)

    def begin_own(self, file: bytes) -> None:
        """The next chunks for packs of their own are those of a large file. `file` is the same whenever its content is,
        as far as one can see without reading it."""
        self._own_file = file

    def add_own(self, chunk: bytes, length: int, stored: Buffer, at: int = 0) -> Placement:
        """Place a chunk of the large file that is being read, in its own pack; otherwise the same."""
        if self._own is not None and self._own.chunks >= OWN_PACK_CHUNKS:
            self.end_own()
        if self._own is None:
            self._own = self._begin(self._known.bookmarks.take(content_id(self._own_file + chunk)))
        return self._add(self._own, chunk, length, stored, at)

    def end_shared(self) -> None:
        """The next small file starts another pack."""
        if self._shared is not None:
            self._shared.is_ended = True
            self._shared = None

    def end_own(self) -> None:
        """The large file has ended."""
        if self._own is not None:
            self._own.is_ended = True
            self._own = None

    def _begin(self, bookmark: UploadBookmark | None = None) -> OpenPack:
        pack = OpenPack(self._order.begin(), bookmark)
        self._known.begin_pack(pack.id)
        self._unrelieved.append(pack)
        self.packs += 1
        return pack

    def _add(self, pack: OpenPack, chunk: bytes, length: int, stored: Buffer, at: int) -> Placement:
        stored_bytes = len(stored)
        placement = Placement(pack.id, pack.stored_bytes, stored_bytes, pack.plain_bytes)
        pack.rows += encode_row(chunk, stored_bytes, length)
        last = pack.pending[-1] if pack.pending else None
        if not isinstance(stored, memoryview):
            pack.pending.append(_Run(stored, 0, stored_bytes))
        elif last is not None and last.data is stored.obj and last.end == at:
            last.end += stored_bytes
        else:
            assert isinstance(stored.obj, bytes | bytearray)
            pack.pending.append(_Run(stored.obj, at, at + stored_bytes))
        pack.pending_bytes += stored_bytes
        pack.stored_bytes += stored_bytes
        pack.plain_bytes += length
        pack.chunks += 1
        self.stored_bytes += stored_bytes
        self._known.add(chunk, length, placement)
        return placement

    # --- handing on

    async def relieve(self) -> None:
        """Hand what was added to the uploads; waits while too much is queued for them."""
        if self._writer.waiting_bytes > self._limits.publish_queue_bytes // 4:
            # Objects wait for a pack that fills slowly, beside large files that have packs of their own.
            self.end_shared()
        for pack in list(self._unrelieved):
            if pack.pending_bytes >= _PART_BYTES or pack.is_ended:
                await self._hand_on(pack)
        # Stores collect by themselves what they send next: this is for the hops between tasks.
        while self._queued_bytes > self._limits.publish_queue_bytes // 4:
            await self._room.wait()

    async def finish(self) -> None:
        """End all packs. They are durable when the nursery's uploads are done."""
        self.end_shared()
        self.end_own()
        await self.relieve()

    async def _hand_on(self, pack: OpenPack) -> None:
        if pack.uploads is None:
            await self._slots.acquire()
            # Bounded by bytes over all packs, not by parts of one: so the next pack is begun while this one is sent.
            pack.uploads, parts = trio.open_memory_channel[Buffer](1_000_000)
            self._nursery.start_soon(self._upload, pack, parts)
        short: list[memoryview] = []
        for run in pack.pending:
            if run.end - run.start >= _LONG_RUN_BYTES:
                self._send_joined(pack, short)
                self._send(pack, run.view())
            else:
                short.append(run.view())
        self._send_joined(pack, short)
        pack.pending.clear()
        pack.pending_bytes = 0
        if pack.is_ended:
            self._send(pack, encode_end(pack.rows))
            pack.uploads.close()
            self._unrelieved.remove(pack)

    def _send_joined(self, pack: OpenPack, short: list[memoryview]) -> None:
        if short:
            self._send(pack, b"".join(short))
            short.clear()

    def _send(self, pack: OpenPack, part: Buffer) -> None:
        assert pack.uploads is not None
        self._queued_bytes += len(part)
        pack.uploads.send_nowait(part)

    async def _upload(self, pack: OpenPack, parts: trio.MemoryReceiveChannel[Buffer]) -> None:
        try:
            async with self._store.upload(pack_key(pack.id), bookmark=pack.bookmark) as upload:
                async for part in parts:
                    await upload.write(part)
                    self._queued_bytes -= len(part)
                    room, self._room = self._room, trio.Event()
                    room.set()
                    self._progress.stored(len(part))
                await upload.finish()
            self._slots.release()
            self._known.note_durable(pack.id)
            self._order.note_durable(pack.number)
            if pack.bookmark is not None:
                # Not before it is noted: else a kill in between would cost the whole upload.
                pack.bookmark.remove()
        finally:
            if pack.bookmark is not None:
                pack.bookmark.close()
        self._writer.wake()
