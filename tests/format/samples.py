"""One object of every kind, the same at every run: what golden files hold and what the fuzzer starts from."""

from __future__ import annotations

from fsd.format.chunker import ChunkerParams
from fsd.format.commit import Commit, encode_commit, tree_id
from fsd.format.compress import compress_chunk
from fsd.format.index import IndexChild, Totals, encode_index
from fsd.format.keys import ObjectKind
from fsd.format.marker import StoreMarker, encode_marker
from fsd.format.model import Entry, Kind, Piece, Placement
from fsd.format.pack import PackedChunk, encode_contents
from fsd.format.page import encode_page
from fsd.format.recipe import encode_recipe
from fsd.format.ref import Move, Ref, RefKind, encode_ref, encode_segment
from fsd.ids import content_id

PACK = bytes.fromhex("0123456789abcdef0123456789abcdef")
OTHER_PACK = bytes.fromhex("fedcba9876543210fedcba9876543210")
TIME_US = 1_795_305_600_000_000  # 2026-11-22 00:00 UTC


def sample_id(number: int) -> bytes:
    """The id of content number `number`, that nobody has to have."""
    return content_id(b"sample %d" % number)


def sample_marker() -> StoreMarker:
    """A store's marker with a feature in each list."""
    return StoreMarker(
        id="0f4e2a6c-8d1b-4c3e-9f5a-7b6d8e0c1a2f",
        created_us=TIME_US,
        chunker=ChunkerParams(32 * 1024, 128 * 1024),
        keep=("README*", "*label*"),
    )


def sample_file(directory: bytes, name: bytes, size: int, *, executable: bool = False) -> Entry:
    """A file of one chunk."""
    content = content_id(directory + b"/" + name)
    return Entry(
        directory,
        name,
        Kind.FILE,
        executable,
        size,
        content,
        pieces=(Piece(content, size),),
        placements=(Placement(PACK, 1000 + size, (size + 1) // 2, 5000 + size),),
    )


def sample_entries() -> list[Entry]:
    """An entry of every kind, sorted."""
    lengths = [70_000, 30_000, 1]
    pieces = tuple(Piece(sample_id(number), length) for number, length in enumerate(lengths))
    chunks = tuple(Placement(OTHER_PACK, 2**33 + number, length, 2**34) for number, length in enumerate(lengths))
    recipes = (Piece(sample_id(10), 2**40), Piece(sample_id(11), 12_345))
    found = [
        sample_file(b"", b"README.md", 1234),
        Entry(b"", b"data", Kind.DIRECTORY),
        Entry(b"", b"empty", Kind.FILE, content=content_id(b"")),
        Entry(b"", b"empty.sh", Kind.FILE, True, content=content_id(b"")),
        Entry(b"", b"latest", Kind.SYMLINK, size=9, content=content_id(b"data/x\xff/y"), target=b"data/x\xff/y"),
        sample_file(b"", b"run.sh", 77, executable=True),
        Entry(b"data", b"many", Kind.FILE, False, sum(lengths), sample_id(20), b"", 0, pieces, chunks),
        Entry(b"data", b"huge", Kind.FILE, False, 2**40 + 12_345, sample_id(21), b"", 1, recipes),
        Entry(b"data", b"x\xff", Kind.DIRECTORY),
        sample_file(b"data/x\xff", b"line\nbreak", 16 * 1024 * 1024),
        sample_file(b"data/x\xff", b"\x01" * 255, 1),
        sample_file(b"data.d", b"...", 5),
    ]
    return sorted(found, key=lambda entry: entry.key)


def sample_children() -> list[IndexChild]:
    """Children of an index."""
    return [
        IndexChild(b"\0\0README.md", sample_id(30), Totals(1000, 900, 12_345_678)),
        IndexChild(b"data\0x\xff\0\0line\nbreak", sample_id(31), Totals(1, 1, 0)),
        IndexChild(b"train\0\0a", sample_id(32), Totals(2**40, 2**39, 2**62)),
    ]


def sample_commit() -> tuple[Commit, bytes]:
    """A commit, and the root of its tree."""
    root = encode_index(0, sample_children())
    totals = Totals(*map(sum, zip(*(child.totals for child in sample_children()), strict=True)))
    return (
        Commit(
            repository="imagenet",
            tree=tree_id(root),
            totals=totals,
            time_us=TIME_US,
            author="Grace <grace@example.org>",
            message="Add the cats\n\nAll of them — “every” one.",
            parents=(sample_id(40), sample_id(41)),
            metadata={"source": "https://example.org/cats", "rows": 12, "ratio": 0.5, "tags": ["a", None, True]},
        ),
        root,
    )


def sample_subset() -> tuple[Commit, bytes]:
    """A subset of nothing: the empty tree."""
    root = encode_index(0, [])
    return (
        Commit(
            repository="imagenet",
            tree=tree_id(root),
            totals=Totals(0, 0, 0),
            time_us=TIME_US + 1,
            source=sample_id(42),
            rule={"sample_percent": "0.5", "keep": ["README*"], "seed": 7},
        ),
        root,
    )


def sample_moves(count: int, *, subset: bool = False) -> tuple[Move, ...]:
    """Moves, oldest first."""
    return tuple(
        Move(
            sample_id(100 + number),
            TIME_US + number,
            f"Move {number} – é" if number % 2 else "",
            sample_id(200 + number) if subset else None,
        )
        for number in range(count)
    )


def sample_branch() -> Ref:
    """A branch with an older segment."""
    moves = sample_moves(5)
    return Ref(RefKind.BRANCH, moves).with_segment(sample_id(50), moves[:3])


def sample_subset_ref() -> Ref:
    """A subset that follows a branch."""
    return Ref(RefKind.SUBSET, sample_moves(2, subset=True), follow={"main": {"sample_percent": "1"}})


def sample_recipe(level: int) -> tuple[bytes, bytes]:
    """Both parts of a recipe."""
    pieces = [Piece(sample_id(60 + number), 30_000 + number) for number in range(5)]
    chunks = [Placement(PACK, 30_000 * number, 20_000, 40_000 * number) for number in range(5)]
    return encode_recipe(level, pieces, () if level else chunks)


def sample_chunks() -> list[bytes]:
    """Plaintexts: one that is stored as it is, one that is compressed, and one too short to be."""
    return [bytes(content_id(b"%d" % number)[0] for number in range(300)), b"abcdefgh" * 50, b"x"]


def sample_pack() -> bytes:
    """A pack."""
    listed, stored_forms = [], []
    for plain in sample_chunks():
        stored = compress_chunk(plain) or plain
        listed.append(PackedChunk(content_id(plain), len(stored), len(plain)))
        stored_forms.append(stored)
    return b"".join(stored_forms) + encode_contents(listed)


def sample_objects() -> dict[str, tuple[ObjectKind, bytes, bytes]]:
    """Kind, logical part and placement part of each object that is named by its hash."""
    return {
        "page": (ObjectKind.PAGE, *encode_page(sample_entries())),
        "index": (ObjectKind.INDEX, encode_index(1, sample_children()), b""),
        "recipe-0": (ObjectKind.RECIPE, *sample_recipe(0)),
        "recipe-1": (ObjectKind.RECIPE, *sample_recipe(1)),
        "commit": (ObjectKind.COMMIT, encode_commit(*sample_commit()), b""),
        "subset": (ObjectKind.COMMIT, encode_commit(*sample_subset()), b""),
        "segment": (ObjectKind.SEGMENT, encode_segment(sample_moves(3)), b""),
    }


def sample_documents() -> dict[str, bytes]:
    """The bytes of everything else."""
    return {
        "fsd.json": encode_marker(sample_marker()),
        "branch": encode_ref(sample_branch()),
        "subset-ref": encode_ref(sample_subset_ref()),
        "pack": sample_pack(),
    }
