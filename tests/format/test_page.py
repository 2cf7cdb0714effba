"""Pages: a model of a sorted list, one encoding, and every way in which bytes can be no page."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsd.errors import CorruptDataError
from fsd.format.limits import MAX_CHUNK_BYTES, MAX_FILE_BYTES, MAX_LOGICAL_BYTES, MAX_PATH_BYTES
from fsd.format.model import Entry, Kind, Piece, PlacedChunk, Placement, directory_key
from fsd.format.outline import HEADER_BYTES, MAGIC
from fsd.format.page import Page, directory_bytes, encode_page, entry_bytes
from fsd.ids import NO_ID, content_id
from tests.format.samples import sample_entries, sample_file, sample_id
from tests.format.strategies import directories, names, page_entries


@given(page_entries)
def test_round_trip(entries: list[Entry]) -> None:
    logical, placement = encode_page(entries)
    page = Page(logical, placement)
    assert len(page) == len(entries)
    assert list(page.entries()) == [page.entry(position) for position in range(len(page))] == entries
    assert encode_page(list(page.entries())) == (logical, placement)
    sizes = sum(map(entry_bytes, entries)) + sum(map(directory_bytes, {entry.directory for entry in entries}))
    assert len(logical) == HEADER_BYTES + sizes


@given(page_entries)
def test_each_column_is_the_entrys(entries: list[Entry]) -> None:
    page = Page(*encode_page(entries))
    assert page.first_key == entries[0].key
    assert list(page.directories) == list(dict.fromkeys(entry.directory for entry in entries))
    for position, entry in enumerate(entries):
        assert page.name(position) == entry.name
        assert page.directory(position) == entry.directory
        assert page.path(position) == entry.path
        assert page.kind(position) == entry.kind
        assert page.executable(position) == entry.executable
        assert page.size(position) == entry.size
        assert page.content(position) == entry.content
        if entry.kind is Kind.SYMLINK:
            assert page.target(position) == entry.target
        single = entry.level == 0 and len(entry.pieces) == 1
        assert page.is_single_chunk(position) == single
        chunk = PlacedChunk(entry.content, entry.size, entry.placements[0]) if single else None
        assert page.single_chunk(position) == chunk


@given(page_entries, directories, names)
def test_looking_up_is_looking_through(entries: list[Entry], directory: bytes, name: bytes) -> None:
    page = Page(*encode_page(entries))
    paths = {(entry.directory, entry.name): position for position, entry in enumerate(entries)}
    for wanted in [*paths, (directory, name), (entries[0].directory, name), (directory, entries[0].name)]:
        assert page.find(*wanted) == paths.get(wanted)
    for wanted_directory in [directory, *page.directories]:
        inside = [position for (found, _), position in paths.items() if found == wanted_directory]
        low, high = page.directory_range(wanted_directory)
        assert list(range(low, high)) == inside
        key = directory_key(wanted_directory)
        assert [directory_key(entry.directory) < key for entry in entries] == [at < low for at in range(len(entries))]


@given(page_entries, st.data())
def test_a_run_of_entries(entries: list[Entry], data: st.DataObject) -> None:
    page = Page(*encode_page(entries))
    start = data.draw(st.integers(0, len(entries) - 1))
    end = data.draw(st.integers(start, len(entries)))
    assert list(page.entries(start, end)) == entries[start:end]


def test_a_lie_about_a_long_files_content_is_another_identity() -> None:
    content = content_id(b"the file that everybody knows")
    chunks = [content_id(b"chunk %d" % number) for number in range(3)]

    def page(first: bytes, lengths: tuple[int, int]) -> Page:
        pieces = (Piece(first, lengths[0]), Piece(chunks[1], lengths[1]))
        places = tuple(
            Placement(bytes(16), at, length, at) for at, length in ((0, lengths[0]), (lengths[0], lengths[1]))
        )
        entry = Entry(b"", b"long", Kind.FILE, False, sum(lengths), content, b"", 0, pieces, places)
        return Page(*encode_page([entry]))

    honest, other_chunk, other_cut = page(chunks[0], (70, 30)), page(chunks[2], (70, 30)), page(chunks[0], (60, 40))
    identities = {each.identity(0) for each in (honest, other_chunk, other_cut)}
    assert len(identities) == 3
    assert content not in identities
    assert [row[3] for row in honest.rows(0, 1)] == [honest.identity(0)]


def test_a_page_says_about_what_it_occupies() -> None:
    small = Page(*encode_page(sample_entries()))
    large = Page(*encode_page([sample_file(b"d", b"%05d" % number, 100) for number in range(1000)]))
    assert small.memory_bytes > 2000
    assert 90_000 < large.memory_bytes < 200_000


FILE = sample_file(b"", b"m", 100)
CHUNK, PLACE = FILE.pieces[0], FILE.placements[0]
FOLDER = Entry(b"", b"d", Kind.DIRECTORY)
LINK = Entry(b"", b"l", Kind.SYMLINK, size=1, content=content_id(b"t"), target=b"t")
MANY = FILE._replace(
    size=20, pieces=(Piece(sample_id(1), 10), Piece(sample_id(2), 10)), placements=(PLACE._replace(stored=10),) * 2
)
HUGE = FILE._replace(size=2**40, level=1, pieces=(Piece(sample_id(1), 2**40),), placements=())


def test_the_entries_that_the_next_test_spoils_are_good() -> None:
    for entry in (FILE, LINK, MANY, HUGE):
        encode_page([entry])


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [FILE, FILE],
        [FILE, FILE._replace(name=b"l")],
        [FILE._replace(directory=b"b"), FILE._replace(directory=b"a")],
        [FILE._replace(directory=b"a0"), FILE._replace(directory=b"a/b")],
        [FILE._replace(directory=b"a"), FILE._replace(directory=b"b"), FILE._replace(directory=b"a", name=b"z")],
        *[[FILE._replace(name=name)] for name in (b"", b".", b"..", b"a/b", b"a\0", b"x" * 256)],
        *[
            [FILE._replace(directory=path)]
            for path in (b"/", b"/a", b"a/", b"a//b", b".", b"a/..", b"a\0b", b"x" * 256, b"a/" + b"x" * 256)
        ],
        [FILE._replace(directory=b"/".join([b"x" * 255] * 128))],
        [FILE._replace(content=b"short")],
        [FILE._replace(size=101)],
        [FILE._replace(size=0)],
        [FILE._replace(size=-1)],
        [FILE._replace(target=b"t")],
        [FILE._replace(placements=())],
        [FILE._replace(placements=(PLACE, PLACE))],
        [FILE._replace(placements=(PLACE._replace(stored=101),))],
        [FILE._replace(placements=(PLACE._replace(stored=0),))],
        [FILE._replace(pieces=(Piece(sample_id(1), 100),))],
        [FILE._replace(pieces=(Piece(FILE.content, 99),))],
        [FILE._replace(pieces=(), placements=())],
        [FILE._replace(size=MAX_CHUNK_BYTES + 1, pieces=(Piece(FILE.content, MAX_CHUNK_BYTES + 1),))],
        [FILE._replace(size=0, pieces=(), placements=())],
        [FILE._replace(size=0, pieces=(), placements=(), content=content_id(b""), level=1)],
        [MANY._replace(size=21)],
        [MANY._replace(pieces=(Piece(sample_id(1), 20), Piece(sample_id(2), 0)))],
        [MANY._replace(pieces=(Piece(sample_id(1), 10), Piece(b"short", 10)))],
        [MANY._replace(placements=(PLACE._replace(stored=10), PLACE._replace(stored=11)))],
        [MANY._replace(size=650, pieces=(Piece(sample_id(1), 10),) * 65, placements=(PLACE,) * 65)],
        [HUGE._replace(level=5)],
        [HUGE._replace(level=-1)],
        [HUGE._replace(level=0)],
        [HUGE._replace(placements=(PLACE,))],
        [HUGE._replace(size=2**63, pieces=(Piece(sample_id(1), 2**63),))],
        [HUGE._replace(size=2**64, pieces=(Piece(sample_id(1), 2**63),) * 2)],
        [LINK._replace(target=b"")],
        [LINK._replace(target=b"", size=0, content=content_id(b""))],
        [LINK._replace(target=b"a\0", size=2, content=content_id(b"a\0"))],
        [LINK._replace(target=b"x" * 4096, size=4096, content=content_id(b"x" * 4096))],
        [LINK._replace(size=2)],
        [LINK._replace(content=sample_id(1))],
        [LINK._replace(executable=True)],
        [LINK._replace(pieces=(CHUNK,))],
        [FOLDER._replace(size=1)],
        [FOLDER._replace(content=sample_id(1))],
        [FOLDER._replace(target=b"t")],
        [FOLDER._replace(level=1)],
        [FOLDER._replace(executable=True)],
        [FOLDER._replace(pieces=(CHUNK,))],
        [FOLDER._replace(placements=(PLACE,))],
        [FILE._replace(name=b"%06d" % number) for number in range(MAX_LOGICAL_BYTES // 49 + 1)],
    ],
)
def test_impossible_entries_are_not_written(entries: list[Entry]) -> None:
    with pytest.raises(ValueError, match=r"."):
        encode_page(entries)


def test_the_longest_path_and_one_byte_more() -> None:
    directory = b"/".join([*[b"x" * 255] * 127, b"xxxx"])
    fits = FILE._replace(directory=directory, name=b"n" * (MAX_PATH_BYTES - len(directory) - 1))
    assert next(Page(*encode_page([fits])).entries()) == fits
    with pytest.raises(ValueError, match="path"):
        encode_page([fits._replace(name=fits.name + b"n")])
    logical, placement = encode_page([fits])
    longer = bytearray(logical.replace(fits.name, fits.name + b"n"))
    longer[HEADER_BYTES - 8] += 1
    longer[HEADER_BYTES + 6] += 1
    with pytest.raises(CorruptDataError, match="path that is too long"):
        Page(bytes(longer), placement)


class Raw:
    """A page's columns, to be spoilt: a directory `d`, files `e` (empty), `f`, `t` (of two chunks), a symlink `l`."""

    def __init__(self) -> None:
        self.magic = MAGIC
        self.paths, self.directory_entries = [b""], [5]
        self.names = [b"d", b"e", b"f", b"l", b"t"]
        self.flags, self.counts, self.sizes = [2, 1, 1, 3, 1], [0, 0, 1, 0, 2], [0, 0, 100, 1, 20]
        self.contents = [NO_ID, content_id(b""), sample_id(1), content_id(b"t"), sample_id(2)]
        self.targets = [b"t"]
        self.pieces = [(sample_id(3), 10), (sample_id(4), 10)]
        self.stored = [100, 10, 10]
        self.extra_counts = [0] * 6

    def logical(self) -> bytes:
        joined = [b"".join(self.paths), b"".join(self.names), b"".join(self.targets)]
        lengths = [len(self.names), len(self.paths), len(self.pieces), *map(len, joined)]
        counts = [length + extra for length, extra in zip(lengths, self.extra_counts, strict=True)]
        return b"".join(
            (
                self.magic,
                struct.pack("<6I", *counts),
                struct.pack(f"<{len(self.paths)}I", *self.directory_entries),
                struct.pack(f"<{len(self.paths)}H", *map(len, self.paths)),
                bytes(map(len, self.names)),
                bytes(self.flags),
                bytes(self.counts),
                struct.pack(f"<{len(self.sizes)}Q", *self.sizes),
                *self.contents,
                *joined,
                *[piece_id for piece_id, _ in self.pieces],
                struct.pack(f"<{len(self.pieces)}Q", *[length for _, length in self.pieces]),
            )
        )

    def placement(self) -> bytes:
        count = len(self.stored)
        rows = (bytes(4 * count), bytes(8 * count), struct.pack(f"<{count}I", *self.stored), bytes(8 * count))
        return b"".join((struct.pack("<II", 1, count), b"p" * 16, *rows)) if count else b""


def put(field: str, value: object) -> Callable[[Raw], None]:
    """Spoil a page by another column."""
    return lambda raw: setattr(raw, field, value)


def put_at(field: str, position: int, value: object) -> Callable[[Raw], None]:
    """Spoil a page by another value in a column."""

    def change(raw: Raw) -> None:
        getattr(raw, field)[position] = value

    return change


def both(first: Callable[[Raw], None], second: Callable[[Raw], None]) -> Callable[[Raw], None]:
    """Spoil a page twice."""

    def change(raw: Raw) -> None:
        first(raw)
        second(raw)

    return change


def put_directories(*paths: bytes) -> Callable[[Raw], None]:
    """Spread the five entries over these directories."""
    return both(put("paths", list(paths)), put("directory_entries", [1] * (len(paths) - 1) + [6 - len(paths)]))


def test_the_columns_that_the_next_test_spoils_are_good() -> None:
    page = Page(Raw().logical(), Raw().placement())
    assert encode_page(list(page.entries()))[0] == Raw().logical()


@pytest.mark.parametrize(
    "spoil",
    [
        put("magic", b"fsdpage2"),
        *[put_at("extra_counts", position, 1) for position in range(6)],
        *[put_at("extra_counts", position, 2**32 - 6) for position in range(6)],
        put_at("directory_entries", 0, 4),
        put_at("directory_entries", 0, 2**32 - 1),
        *[
            put_directories(*paths)
            for paths in [
                (b"", b""),
                (b"b", b"a"),
                (b"a0", b"a/b"),
                (b"/",),
                (b"/a",),
                (b"a/",),
                (b"a//b",),
                (b".",),
                (b"a/..",),
                (b"a\0b",),
                (b"x" * 256,),
                (b"/".join([b"x" * 255] * 128),),
            ]
        ],
        both(put("paths", [b"", b"a"]), put("directory_entries", [5, 0])),
        *[put_at("names", 0, name) for name in (b"", b".", b"..", b"a/b", b"a\0", b"e", b"f")],
        put_at("names", 4, b"l"),
        put_at("names", 4, b"a"),
        *[put_at("flags", 2, flags) for flags in (0, 4, 8 | 2, 8 | 3, 4 | 2, 4 | 3, 5 << 3 | 1, 0x41, 0x81)],
        *[put_at("flags", 0, flags) for flags in (0, 1, 3, 6, 10)],
        *[put_at("flags", 1, flags) for flags in (2, 3, 9)],
        *[put_at("flags", 3, flags) for flags in (1, 2, 7, 11)],
        put_at("flags", 2, 9),
        put_at("counts", 0, 1),
        put_at("counts", 1, 1),
        put_at("counts", 2, 0),
        put_at("counts", 2, 2),
        put_at("counts", 3, 1),
        put_at("counts", 4, 1),
        put_at("counts", 4, 3),
        put_at("counts", 4, 65),
        put_at("sizes", 0, 1),
        both(put_at("sizes", 0, 1), put_at("counts", 0, 1)),
        put_at("sizes", 1, 1),
        put_at("sizes", 2, 0),
        put_at("sizes", 2, MAX_CHUNK_BYTES + 1),
        put_at("sizes", 2, MAX_FILE_BYTES + 1),
        put_at("sizes", 2, 99),
        put_at("sizes", 3, 0),
        put_at("sizes", 3, 2),
        put_at("sizes", 3, 2**63),
        put_at("sizes", 4, 19),
        put_at("contents", 0, sample_id(9)),
        put_at("contents", 1, sample_id(9)),
        put_at("contents", 1, NO_ID),
        put_at("contents", 3, sample_id(9)),
        put("targets", []),
        put("targets", [b"t", b"u"]),
        put("targets", [b"\0"]),
        put_at("pieces", 0, (sample_id(3), 11)),
        both(put_at("pieces", 0, (sample_id(3), 0)), put_at("pieces", 1, (sample_id(3), 20))),
        both(put_at("pieces", 0, (sample_id(3), 2**24 + 1)), put_at("sizes", 4, 2**24 + 11)),
        put("pieces", [(sample_id(3), 20)]),
        put("pieces", [(sample_id(3), 10)] * 3),
        put("stored", []),
        put("stored", [100, 10]),
        put("stored", [100, 10, 10, 10]),
        put("stored", [101, 10, 10]),
        put("stored", [100, 10, 11]),
        put("stored", [0, 10, 10]),
    ],
)
def test_impossible_pages_are_not_read(spoil: Callable[[Raw], None]) -> None:
    raw = Raw()
    spoil(raw)
    with pytest.raises(CorruptDataError, match=r"page|placement"):
        Page(raw.logical(), raw.placement())


def test_pieces_that_belong_to_nothing() -> None:
    logical, placement = encode_page([FILE])
    extra = bytearray(logical + bytes(40))
    extra[16] = 1
    with pytest.raises(CorruptDataError, match="belong to no file"):
        Page(bytes(extra), placement)


def test_every_placement_of_a_long_page_is_at_its_file() -> None:
    entries = [
        sample_file(b"d", b"%05d" % number, 1000 + number)._replace(
            placements=(Placement(b"%016d" % (number % 7), number, 1 + number, 2 * number),)
        )
        for number in range(900)
    ]
    page = Page(*encode_page(entries))
    assert list(page.entries()) == entries
    assert [page.find(b"d", b"%05d" % number) for number in range(900)] == list(range(900))
    assert page.find(b"d", b"00000x") is None
    assert page.find(b"", b"d") is None
