"""Hypothesis strategies for what the format can hold."""

from __future__ import annotations

import hypothesis.strategies as st

from fsd.format.commit import Commit, tree_id
from fsd.format.index import IndexChild, Totals, encode_index
from fsd.format.limits import MAX_CHUNK_BYTES, MAX_FILE_BYTES, MAX_PACK_BYTES, MAX_TIME_US
from fsd.format.model import Entry, Kind, Piece, Placement
from fsd.format.pack import PackedChunk
from fsd.format.ref import MAX_SUMMARY_CHARACTERS, Move, Ref, RefKind, SegmentInfo
from fsd.ids import NO_ID, content_id

ids = st.binary(min_size=32, max_size=32)
pack_ids = st.sampled_from([bytes([number]) * 16 for number in range(5)])
times = st.integers(0, MAX_TIME_US)

_name_bytes = st.lists(
    st.sampled_from([b"a", b"b", b".", b" ", b"\n", b"\xff", b"\x01", "é".encode(), b"0"]), min_size=1, max_size=5
).map(b"".join)
names = st.one_of(_name_bytes, _name_bytes.map(lambda name: (name * 255)[:255])).filter(
    lambda n: n not in (b".", b"..")
)
directories = st.lists(names, max_size=3).map(b"/".join)


@st.composite
def placements(draw: st.DrawFn, length: int) -> Placement:
    """Where a chunk of that length may lie."""
    return Placement(
        draw(pack_ids),
        draw(st.integers(0, MAX_PACK_BYTES)),
        draw(st.integers(1, length)),
        draw(st.integers(0, MAX_PACK_BYTES)),
    )


@st.composite
def files(draw: st.DrawFn, directory: bytes, name: bytes) -> Entry:
    """An empty file, one of one chunk, of several, or of recipes."""
    executable = draw(st.booleans())
    level = draw(st.sampled_from([0, 0, 0, 1, 4]))
    count = draw(st.sampled_from([1, 2, 64]) if level else st.sampled_from([0, 1, 1, 1, 2, 5]))
    if count == 0:
        return Entry(directory, name, Kind.FILE, executable, 0, content_id(b""))
    content = draw(ids)
    most = MAX_FILE_BYTES // count if level else MAX_CHUNK_BYTES
    lengths = [draw(st.integers(1, most)) for _ in range(min(count, 3))]
    lengths += lengths[-1:] * (count - len(lengths))
    piece_ids = [content] if level == 0 and count == 1 else [draw(ids) for _ in range(count)]
    placed = () if level else tuple(draw(placements(length)) for length in lengths)
    pieces = tuple(map(Piece, piece_ids, lengths))
    return Entry(directory, name, Kind.FILE, executable, sum(lengths), content, b"", level, pieces, placed)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    """Any entry."""
    directory, name = draw(directories), draw(names)
    kind = draw(st.sampled_from([Kind.FILE, Kind.FILE, Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK]))
    if kind is Kind.DIRECTORY:
        return Entry(directory, name, kind, content=NO_ID)
    if kind is Kind.SYMLINK:
        target = draw(st.binary(min_size=1, max_size=20).filter(lambda target: b"\0" not in target))
        return Entry(directory, name, kind, size=len(target), content=content_id(target), target=target)
    return draw(files(directory, name))


page_entries = st.lists(entries(), min_size=1, max_size=12, unique_by=lambda entry: entry.key).map(
    lambda unsorted: sorted(unsorted, key=lambda entry: entry.key)
)

totals = st.integers(1, 2**40).flatmap(
    lambda count: st.builds(Totals, st.just(count), st.integers(0, count), st.integers(0, 2**60))
)
index_children = st.lists(
    st.builds(IndexChild, st.binary(max_size=20), ids, totals), max_size=8, unique_by=lambda child: child.first_key
).map(lambda children: sorted(children))

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
json_objects = st.dictionaries(st.text(), json_values, max_size=3)


@st.composite
def commits(draw: st.DrawFn) -> tuple[Commit, bytes]:
    """A commit or subset, and the root of its tree."""
    children = draw(index_children)
    root = encode_index(0, children)
    sums = Totals(*map(sum, zip(*(child.totals for child in children), strict=True))) if children else Totals(0, 0, 0)
    source = draw(st.none() | ids)
    commit = Commit(
        repository=draw(st.sampled_from(["imagenet", "a", "A-b_c.d"])),
        tree=tree_id(root),
        totals=sums,
        time_us=draw(times),
        author=draw(st.text()),
        message=draw(st.text()),
        parents=tuple(draw(st.lists(ids, max_size=3))),
        source=source,
        rule=None if source is None else draw(json_objects),
        metadata=draw(json_objects),
    )
    return commit, root


@st.composite
def refs(draw: st.DrawFn) -> Ref:
    """A branch, tag or subset."""
    kind = draw(st.sampled_from(RefKind))
    source = ids if kind is RefKind.SUBSET else st.none()
    moves = st.builds(Move, ids, times, st.text(max_size=MAX_SUMMARY_CHARACTERS), source)
    return Ref(
        kind,
        tuple(draw(st.lists(moves, min_size=1, max_size=5))),
        tuple(draw(st.lists(st.builds(SegmentInfo, ids, times, times, st.integers(0, 2**64 - 1)), max_size=3))),
        draw(st.dictionaries(st.text(), json_objects, max_size=2)) if kind is RefKind.SUBSET else {},
    )


packed_chunks = st.integers(1, MAX_CHUNK_BYTES).flatmap(
    lambda length: st.builds(PackedChunk, ids, st.integers(1, length), st.just(length))
)
