"""Whatever bytes a store hands out: the documented errors, in bounded time and memory.

Valid objects of every kind are spoilt in ways that reach each layer of parsing: as they are stored, and, sealed again
with a fitting id and checksum, in their inner parts. What still parses must encode to the bytes that it was read from.
"""

from __future__ import annotations

import json
import random
import struct
import tracemalloc
from collections.abc import Callable
from contextlib import suppress

import pytest

from fsd.errors import CorruptDataError
from fsd.format.commit import encode_commit, parse_commit
from fsd.format.compress import compress_metadata
from fsd.format.envelope import unseal
from fsd.format.index import HEADER_BYTES as INDEX_HEADER_BYTES
from fsd.format.index import Index, encode_index
from fsd.format.keys import ObjectKind
from fsd.format.limits import MAX_CHUNK_BYTES
from fsd.format.marker import encode_marker, parse_marker
from fsd.format.model import Entry, Kind
from fsd.format.pack import FOOTER_BYTES, decode_chunk, encode_contents, parse_contents, parse_footer
from fsd.format.page import Page, encode_page
from fsd.format.recipe import Recipe, encode_recipe
from fsd.format.ref import encode_ref, encode_segment, parse_ref, parse_segment
from fsd.ids import content_id
from tests.format.samples import sample_chunks, sample_documents, sample_objects

ROUNDS = 600
MOST_MEMORY_BYTES = 32 * 1024 * 1024

OBJECTS, DOCUMENTS = sample_objects(), sample_documents()
_EDGES = [0, 1, 2, 63, 64, 65, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]
_JSON_VALUES = [
    "null", "true", "-1", "1.5", "1e999", "NaN", "1" * 400, '""', '"\\ud800"', "[]", "{}", "[[[[1]]]]", '"a/b"', '"00"'
]  # fmt: skip


def flip(data: bytearray, rng: random.Random) -> None:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def cut_short(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def insert(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.randbytes(rng.choice([1, 2, 4, 8, 32, 40, 43]))


def remove(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.choice([1, 2, 4, 8, 32, 40, 43])]


def splice(data: bytearray, rng: random.Random) -> None:
    start, to = rng.randrange(len(data)), rng.randrange(len(data))
    run = data[start : start + rng.randrange(1, 64)]
    data[to : to + len(run)] = run


def number(data: bytearray, rng: random.Random) -> None:
    """Overwrite a number by one from the edge of what it may be; headers more often than the rest."""
    width = rng.choice([1, 2, 4, 8])
    most = max(1, len(data) - width)
    at = rng.randrange(min(64, most)) if rng.random() < 0.5 else rng.randrange(most)
    data[at : at + width] = (rng.choice(_EDGES) % 256**width).to_bytes(width, "little")


def json_value(data: bytearray, rng: random.Random) -> None:
    """Replace what follows a colon in JSON."""
    colons = [at for at, byte in enumerate(data) if byte == ord(":")]
    if colons:
        at = rng.choice(colons) + 1
        end = at + 1
        while end < len(data) and data[end] not in b",}":
            end += 1
        data[at:end] = rng.choice(_JSON_VALUES).encode()


SPOILERS = [flip, flip, cut_short, insert, remove, splice, number, number, number, json_value]


def spoilt(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4])):
        if changed:
            rng.choice(SPOILERS)(changed, rng)
    return bytes(changed)


def repack_header(text: bytes, rest: bytes) -> bytes:
    return ObjectKind.COMMIT.value + struct.pack("<I", len(text)) + text + rest


def spoilt_commit(logical: bytes, rng: random.Random) -> bytes:
    """A commit whose header, root or both are spoilt, the header naming the root that there is."""
    (length,) = struct.unpack_from("<I", logical, 8)
    text, root = logical[12 : 12 + length], logical[12 + length :]
    if rng.random() < 0.5:
        return repack_header(spoilt(text, rng), root)
    root = spoilt(root, rng)
    header = json.loads(text)
    header["tree"] = content_id(root).hex()
    with suppress(CorruptDataError):
        header["totals"] = Index(root).totals._asdict()
    return repack_header(json.dumps(header).encode(), root)


def use_page(logical: bytes, placement: bytes) -> None:
    page = Page(logical, placement)
    entries: list[Entry] = list(page.entries())
    assert encode_page(entries)[0] == logical
    assert page.first_key == entries[0].key <= entries[-1].key
    assert page.memory_bytes < 64 * (len(logical) + len(placement)) + 10_000
    for position, entry in enumerate(entries):
        assert page.find(entry.directory, entry.name) == position
        assert page.entry(position) == entry
        assert b"\0" not in entry.path
        assert b"/" not in entry.name
        assert b"\0" not in entry.target
        page.single_chunk(position)
        if entry.level == 0 and entry.kind is Kind.FILE:
            assert all(chunk.placement.stored <= chunk.length <= MAX_CHUNK_BYTES for chunk in entry.chunks())


def use_index(logical: bytes, _: bytes) -> None:
    index = Index(logical)
    assert encode_index(index.level, index.children) == logical
    if index.children:
        assert index.locate(index.totals.entries - 1) == len(index.children) - 1
    assert index.find(b"") <= 0


def use_recipe(logical: bytes, placement: bytes) -> None:
    recipe = Recipe(logical, placement)
    pieces = [(recipe.id(position), recipe.length(position)) for position in range(len(recipe))]
    places = [] if recipe.level else [chunk.placement for chunk in recipe.chunks(0, len(recipe))]
    assert encode_recipe(recipe.level, pieces, places)[0] == logical
    assert recipe.find(recipe.size - 1) == len(recipe) - 1


def use_commit(logical: bytes, _: bytes) -> None:
    commit, index = parse_commit(logical)
    assert commit.totals == index.totals
    # A reader keeps a header's bytes, but a writer must be able to say the same.
    root = encode_index(index.level, index.children)
    assert parse_commit(encode_commit(commit, root))[0] == commit
    commit.message.encode()


def use_segment(logical: bytes, _: bytes) -> None:
    moves = parse_segment(logical)
    assert parse_segment(encode_segment(moves)) == moves


USES: dict[ObjectKind, Callable[[bytes, bytes], None]] = {
    ObjectKind.PAGE: use_page,
    ObjectKind.INDEX: use_index,
    ObjectKind.RECIPE: use_recipe,
    ObjectKind.COMMIT: use_commit,
    ObjectKind.SEGMENT: use_segment,
}


class Tally:
    """Runs cases, and sees to it that both outcomes were met and that nothing took much memory."""

    def __init__(self) -> None:
        self.good = self.bad = self.longest_message = 0

    def __enter__(self) -> Tally:
        tracemalloc.start()
        return self

    def run(self, case: Callable[[], None]) -> None:
        try:
            case()
            self.good += 1
        except CorruptDataError as error:
            self.bad += 1
            self.longest_message = max(self.longest_message, len(str(error)))

    def __exit__(self, *_: object) -> None:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MOST_MEMORY_BYTES
        assert self.longest_message < 500


def seal_leniently(logical: bytes, placement: bytes) -> tuple[bytes, bytes]:
    """What `seal` makes, of whatever bytes."""
    first, second = compress_metadata(logical), compress_metadata(placement)
    check = content_id(placement)[:8]
    header = struct.pack("<4sIIII8s", b"fsd1", len(logical), len(first), len(placement), len(second), check)
    return content_id(logical), header + first + second


@pytest.mark.parametrize("name", OBJECTS)
def test_stored_objects(name: str) -> None:
    kind, logical, placement = OBJECTS[name]
    rng = random.Random(name)
    object_id, stored = seal_leniently(logical, placement)
    with Tally() as tally:
        for _ in range(ROUNDS):
            tally.run(lambda: USES[kind](*unseal(kind, object_id, spoilt(stored, rng))))


@pytest.mark.parametrize("name", OBJECTS)
def test_the_inner_parts_of_objects(name: str) -> None:
    kind, logical, placement = OBJECTS[name]
    rng = random.Random(name)

    def case() -> None:
        if kind is ObjectKind.COMMIT:
            changed = spoilt_commit(logical, rng), placement
        elif placement and rng.random() < 0.4:
            changed = logical, spoilt(placement, rng)
        else:
            changed = kind.value + spoilt(logical[8:], rng), placement
        object_id, stored = seal_leniently(*changed)
        USES[kind](*unseal(kind, object_id, stored))

    with Tally() as tally:
        for _ in range(3 * ROUNDS):
            tally.run(case)
    assert tally.good > 0 < tally.bad


@pytest.mark.parametrize("name", ["branch", "subset-ref"])
@pytest.mark.parametrize("checked", [False, True])
def test_refs(name: str, checked: bool) -> None:
    line = DOCUMENTS[name].split(b"\n")[0]
    rng = random.Random(name)

    def case() -> None:
        if checked:
            changed = spoilt(line, rng)
            data = changed + b"\n" + content_id(changed).hex().encode() + b"\n"
        else:
            data = spoilt(DOCUMENTS[name], rng)
        ref = parse_ref(data, "ref")
        assert parse_ref(encode_ref(ref), "ref") == ref
        assert len(ref.target) == 32

    with Tally() as tally:
        for _ in range(2 * ROUNDS):
            tally.run(case)


def test_markers() -> None:
    rng = random.Random(1)

    def case() -> None:
        marker = parse_marker(spoilt(DOCUMENTS["fsd.json"], rng), "store")
        assert parse_marker(encode_marker(marker), "store") == marker

    with Tally() as tally:
        for _ in range(2 * ROUNDS):
            tally.run(case)


@pytest.mark.parametrize("checked", [False, True])
def test_packs(checked: bool) -> None:
    pack = DOCUMENTS["pack"]
    start = len(pack) - FOOTER_BYTES - 40 * len(sample_chunks())
    rng = random.Random(2)

    def case() -> None:
        end = spoilt(pack[start:-32] if checked else pack[start:], rng)
        end += content_id(end) if checked else b""
        footer = parse_footer(end, start + len(end), "pack")
        contents = parse_contents(end, start + len(end), "pack")
        assert footer.chunks == len(contents)
        assert encode_contents(contents) == end

    with Tally() as tally:
        for _ in range(2 * ROUNDS):
            tally.run(case)


def test_chunks() -> None:
    chunk = sample_chunks()[1]
    stored = compress_metadata(chunk)
    rng = random.Random(3)

    def case() -> None:
        length = len(chunk) if rng.random() < 0.5 else rng.choice(_EDGES)
        assert bytes(decode_chunk(content_id(chunk), memoryview(spoilt(stored, rng)), length)) == chunk

    with Tally() as tally:
        for _ in range(2 * ROUNDS):
            tally.run(case)


def test_noise() -> None:
    """No bytes at all parse as something by chance, or break anything."""
    rng = random.Random(4)
    with Tally() as tally:
        for _ in range(ROUNDS):
            noise = rng.randbytes(rng.randrange(200))
            for kind, use in USES.items():
                tally.run(lambda kind=kind, use=use, noise=noise: use(kind.value + noise, noise))  # type: ignore[misc]
            tally.run(lambda noise=noise: unseal(ObjectKind.PAGE, bytes(32), noise) and None)  # type: ignore[misc]
    assert tally.good == 0


def test_lengths_of_headers_cost_nothing_to_refuse() -> None:
    """Every count in a header at its greatest, one at a time and all at once."""
    for name, header_bytes in (("page", 32), ("index", INDEX_HEADER_BYTES), ("recipe-0", 16)):
        kind, logical, placement = OBJECTS[name]
        spots = [[at] for at in range(8, header_bytes, 4)] + [list(range(8, header_bytes, 4))]
        with Tally():
            for spot in spots:
                changed = bytearray(logical)
                for at in spot:
                    changed[at : at + 4] = b"\xff" * 4
                with pytest.raises(CorruptDataError):
                    USES[kind](bytes(changed), placement)
