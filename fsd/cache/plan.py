"""What to ask a store for: which chunks go into one request, and how far a miss widens. Pure decisions, no I/O.

A *range* is one GET: a run of a pack with the chunks wanted from it. Everything here works on hints (placements); a
wrong one costs a request and never a byte, since whoever decodes a range checks each chunk.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

from fsd.format.limits import MAX_CHUNK_BYTES
from fsd.format.model import PlacedChunk, Placement
from fsd.format.pack import PackedChunk
from fsd.repo.packs import MisplacedError

WIDEN_MIN_BYTES = 256 * 1024
"""The first window: what costs a thirtieth of a round trip on the link that the limits are made for."""

NEAR_BYTES = 16 * 1024 * 1024
"""Misses this far apart in a pack speak for what lies between them. A reader of few files has fewer of these."""

REST_AFTER_MISSES = 12
"""With so many misses before it, wherever in its pack, one is worth the rest of that: on that link twelve round trips
cost as much as 90 MB, and a pack has 48."""

RECENT_S = 30.0
"""A miss older than this says nothing about what is read now."""

RECENT_PACKS = 1024
"""Packs whose misses are remembered."""

WIDEN_FULL_SHARE = 0.05
"""Of the bytes missed, what may be widened in a full cache though nobody uses it."""

WIDEN_FOUND_SHARE = 2.0
"""For each byte found in a full cache, what may be widened."""

WIDEN_MAX_CHUNKS = 1024
"""To either side of a miss. Each costs ten microseconds of the event loop."""

CONTENTS_CHUNK_MEMORY_BYTES = 56
"""40 in the contents, 8 for each of two sums."""

MAX_PACK_BYTES = 1 << 50
"""No placement reaches further; what claims to is not worth a request."""


class Range(NamedTuple):
    """One GET."""

    pack: bytes
    start: int
    """Bytes from the pack's start."""
    length: int
    chunks: tuple[PlacedChunk, ...]
    """What is wanted of it, by offset."""


def check_placed(chunk: PlacedChunk) -> None:
    """Refuse a placement that cannot be, before anything is asked for or allocated. Raises MisplacedError."""
    place = chunk.placement
    if (
        not 0 < chunk.length <= MAX_CHUNK_BYTES
        or not 0 < place.stored <= chunk.length
        or not (0 <= place.offset <= MAX_PACK_BYTES and place.plain_offset >= 0)
    ):
        raise MisplacedError(
            chunk, f"chunk {chunk.id.hex()} claims {place.stored} bytes at {place.offset} of pack {place.pack.hex()}"
        )


def coalesce(chunks: Iterable[PlacedChunk], *, range_bytes: int, gap_bytes: int) -> list[Range]:
    """The fewest ranges of at most `range_bytes` (one chunk may be longer) that read over gaps of `gap_bytes`.

    Ranges come in the order in which their packs were first asked for, then by offset.
    """
    by_pack: dict[bytes, list[PlacedChunk]] = {}
    for chunk in chunks:
        by_pack.setdefault(chunk.placement.pack, []).append(chunk)
    ranges: list[Range] = []
    for pack, wanted in by_pack.items():
        wanted.sort(key=_offset)
        first = 0
        start = wanted[0].placement.offset
        end = start
        for position, chunk in enumerate(wanted):
            offset = chunk.placement.offset
            chunk_end = offset + chunk.placement.stored
            if position > first and (offset - end > gap_bytes or max(end, chunk_end) - start > range_bytes):
                ranges.append(Range(pack, start, end - start, tuple(wanted[first:position])))
                first, start, end = position, offset, offset
            end = max(end, chunk_end)
        ranges.append(Range(pack, start, end - start, tuple(wanted[first:])))
    return ranges


def _offset(chunk: PlacedChunk) -> int:
    return chunk.placement.offset


class Misses(NamedTuple):
    """Those of late in a pack, before the present one."""

    near: int
    """In its neighbourhood."""
    all: int


class MissHistory:
    """Recent misses of each pack, from which a window follows. Bounded; forgets what is old."""

    def __init__(self) -> None:
        self._misses: OrderedDict[bytes, deque[tuple[float, int]]] = OrderedDict()

    def note(self, pack: bytes, offset: int, now_s: float) -> Misses:
        """Record a miss at `offset` of `pack`; what came before it."""
        misses = self._misses.get(pack)
        if misses is None:
            misses = self._misses[pack] = deque(maxlen=REST_AFTER_MISSES)
            if len(self._misses) > RECENT_PACKS:
                self._misses.popitem(last=False)
        else:
            self._misses.move_to_end(pack)
        recent = [at for at_s, at in misses if now_s - at_s <= RECENT_S]
        misses.append((now_s, offset))
        return Misses(sum(1 for at in recent if abs(at - offset) <= NEAR_BYTES), len(recent))


def window_bytes(misses: Misses, most_bytes: int) -> int:
    """How many bytes around a miss are worth fetching; 0: its chunk only.

    The first miss of a neighbourhood is alone; the second widens to `WIDEN_MIN_BYTES`, each further one to twice as
    much. So what is fetched in vain stays in proportion to the round trips that were paid before.
    """
    if misses.near == 0:
        return 0
    return min(WIDEN_MIN_BYTES << min(misses.near - 1, 32), most_bytes)


class Allowance:
    """How much may be widened once the cache is full, when each byte pushes another one out.

    It pays back: a byte that a reader finds in the cache allows two more. So windows of which more than half is read
    before it is evicted grow, and those of a random order over a set many times the cache end. A small share of what
    readers miss is granted all the same: by it one learns that they have come to use their windows again.
    """

    def __init__(self, most_bytes: int) -> None:
        """`most_bytes`: what may be outstanding; so much at most when the cache has just become full."""
        self._most = most_bytes
        self._left = float(most_bytes)
        self._found = 0

    @property
    def left_bytes(self) -> int:
        """What may be fetched now."""
        return int(self._left)

    def note_miss(self, missed_bytes: int, found_bytes: int, *, is_full: bool) -> None:
        """A reader missed so much; `found_bytes` is all that readers ever found in the cache."""
        earned = WIDEN_FOUND_SHARE * (found_bytes - self._found) + WIDEN_FULL_SHARE * missed_bytes
        self._found = found_bytes
        self._left = min(self._left + earned, self._most) if is_full else self._most

    def spend(self, size: int) -> None:
        """So many bytes are being fetched."""
        self._left -= size


class PackContents:
    """A pack's contents with the sums that make placements of them."""

    def __init__(self, pack: bytes, chunks: Sequence[PackedChunk]) -> None:
        """Takes a microsecond a chunk."""
        self.pack = pack
        self._chunks = chunks
        self._offsets = array("Q", accumulate((chunk.stored for chunk in chunks), initial=0))
        self._plain_offsets = array("Q", accumulate((chunk.length for chunk in chunks), initial=0))

    @property
    def memory_bytes(self) -> int:
        """What it takes in memory, about."""
        return CONTENTS_CHUNK_MEMORY_BYTES * len(self._chunks)

    def chunk(self, position: int) -> PlacedChunk:
        """The chunk at `position` in pack order."""
        chunk, stored, length = self._chunks[position]
        place = Placement(self.pack, self._offsets[position], stored, self._plain_offsets[position])
        return PlacedChunk(chunk, length, place)

    def neighbours(self, offset: int, window_bytes: int, is_known: Callable[[bytes], bool]) -> list[PlacedChunk]:
        """Chunks around byte `offset` of the pack worth fetching: `window_bytes` of them, none that `is_known`.

        Half the window lies before, half behind; a side that ends early, at a known chunk or the pack's end, leaves
        its rest to the other. A reader who comes from one side so gets the whole window on the other.
        """
        count = len(self._chunks)
        here = bisect_right(self._offsets, offset) - 1
        if not 0 <= here < count:
            return []
        before: list[PlacedChunk] = []
        taken = self._take(range(here - 1, -1, -1), window_bytes // 2, is_known, before)
        behind: list[PlacedChunk] = []
        taken += self._take(range(here + 1, count), window_bytes - taken, is_known, behind)
        self._take(range(here - 1 - len(before), -1, -1), window_bytes - taken, is_known, before)
        return before[::-1] + behind

    def after(self, offset: int) -> range:
        """The positions of the chunks that lie behind byte `offset`."""
        return range(bisect_right(self._offsets, offset), len(self._chunks))

    def before(self, offset: int) -> range:
        """Those of the chunks that lie before it, the nearest first."""
        return range(bisect_right(self._offsets, offset) - 2, -1, -1)

    def _take(
        self, positions: Sequence[int], budget: int, is_known: Callable[[bytes], bool], into: list[PlacedChunk]
    ) -> int:
        taken = 0
        for position in positions[:WIDEN_MAX_CHUNKS]:
            chunk = self.chunk(position)
            if taken + chunk.placement.stored > budget or is_known(chunk.id):
                break
            into.append(chunk)
            taken += chunk.placement.stored
        return taken
