"""Whatever bytes a store hands out: the documented errors, in bounded time and memory.

Valid objects of every kind are spoilt in ways that reach each layer of parsing: as they are stored, and, sealed again
with a fitting id and checksum, in their inner parts. What still parses must encode to the bytes that it was read from.
"""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable

import pytest

from fsd.errors import CorruptDataError
from fsd.format.compress import compress_metadata
from fsd.format.envelope import unseal
from fsd.format.index import HEADER_BYTES as INDEX_HEADER_BYTES
from fsd.format.keys import ObjectKind
from fsd.format.marker import encode_marker, parse_marker
from fsd.format.pack import FOOTER_BYTES, decode_chunk, encode_contents, parse_contents, parse_footer
from fsd.format.ref import encode_ref, parse_ref
from fsd.ids import content_id
from tests.format.samples import sample_chunks, sample_documents, sample_objects
from tests.format.spoiling import EDGES, seal_leniently, spoilt, spoilt_commit
from tests.format.uses import USES

ROUNDS = 600
MOST_MEMORY_BYTES = 32 * 1024 * 1024

OBJECTS, DOCUMENTS = sample_objects(), sample_documents()


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
        length = len(chunk) if rng.random() < 0.5 else rng.choice(EDGES)
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
