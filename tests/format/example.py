"""The store of the worked example in `docs/format.md`: one small file in a directory, one commit, one branch."""

from __future__ import annotations

from fsd.format.chunker import ChunkerParams
from fsd.format.commit import Commit, encode_commit, tree_id
from fsd.format.envelope import seal
from fsd.format.index import IndexChild, Totals, encode_index
from fsd.format.keys import STORE_MARKER, ObjectKind, object_key, pack_key, ref_key
from fsd.format.marker import StoreMarker, encode_marker
from fsd.format.model import Entry, Kind, Piece, Placement
from fsd.format.pack import PackedChunk, encode_contents
from fsd.format.page import encode_page
from fsd.format.ref import Move, Ref, RefKind, encode_ref
from fsd.ids import content_id

PACK = bytes.fromhex("000102030405060708090a0b0c0d0e0f")
TIME_US = 1_795_305_600_000_000
HELLO = b"echo Hello\n"
"""All of `greetings/hello.sh`."""


def example_entries() -> list[Entry]:
    """The example's tree: a directory with an executable file in it."""
    content = content_id(HELLO)
    file = Entry(
        b"greetings",
        b"hello.sh",
        Kind.FILE,
        executable=True,
        size=len(HELLO),
        content=content,
        pieces=(Piece(content, len(HELLO)),),
        placements=(Placement(PACK, 0, len(HELLO), 0),),
    )
    return [Entry(b"", b"greetings", Kind.DIRECTORY), file]


def example_parts() -> dict[str, bytes]:
    """What the document shows in hexadecimal, by the name that it has there."""
    logical, placement = encode_page(example_entries())
    page_id, _ = seal(ObjectKind.PAGE, logical, placement)
    totals = Totals(2, 1, len(HELLO))
    root = encode_index(0, [IndexChild(example_entries()[0].key, page_id, totals)])
    header = Commit("demo", tree_id(root), totals, TIME_US, author="Ada", message="Say hello")
    commit = encode_commit(header, root)
    end = encode_contents([PackedChunk(content_id(HELLO), len(HELLO), len(HELLO))])
    return {"page": logical, "placements": placement, "root": root, "commit": commit, "pack": HELLO + end}


def example_store() -> dict[str, bytes]:
    """All objects of the store, by key."""
    parts = example_parts()
    page_id, page = seal(ObjectKind.PAGE, parts["page"], parts["placements"])
    commit_id, commit = seal(ObjectKind.COMMIT, parts["commit"])
    ref = Ref(RefKind.BRANCH, (Move(commit_id, TIME_US, "Say hello"),))
    marker = StoreMarker("0f4e2a6c-8d1b-4c3e-9f5a-7b6d8e0c1a2f", TIME_US, chunker=ChunkerParams(), keep=("README*",))
    return {
        STORE_MARKER: encode_marker(marker),
        ref_key("demo", "main"): encode_ref(ref),
        object_key(ObjectKind.COMMIT, commit_id): commit,
        object_key(ObjectKind.PAGE, page_id): page,
        pack_key(PACK): parts["pack"],
    }


def hex_dump(data: bytes) -> str:
    """16 bytes a line: offset, the bytes in hexadecimal, the printable ones."""
    lines = []
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{at:04x}  {row.hex(' ')}".ljust(54) + shown)
    return "\n".join(lines)
