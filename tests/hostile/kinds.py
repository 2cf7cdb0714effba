"""Every kind of object that a store holds: how a hostile one is made, and all that a reader does with it.

A case is a function of no arguments that was made from a random generator. It returns what it likes, or raises an error
of the hierarchy in `fsd.errors`; anything else is a finding.
"""

from __future__ import annotations

import json
import random
import struct
from array import array
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from fsd.errors import CorruptDataError
from fsd.format import condemned, lease, moved, replaced, run
from fsd.format.compress import compress_metadata
from fsd.format.envelope import unseal, unseal_logical
from fsd.format.fields import decode_json
from fsd.format.keys import ObjectKind
from fsd.format.marker import parse_marker
from fsd.format.moved import LEFT_BEHIND, encode_moved, parse_moved
from fsd.format.outline import Outline
from fsd.format.pack import FOOTER_BYTES, Contents, decode_chunk, parse_contents, parse_footer
from fsd.format.page import Page
from fsd.format.placement import placed_packs
from fsd.format.ref import parse_ref
from fsd.format.refs_index import IndexedRef, encode_refs_index, parse_refs_index
from fsd.format.sealed import unseal_list
from fsd.ids import content_id
from fsd.maintenance import purge
from fsd.repo.rules import Matcher, Rule
from tests.format.samples import TIME_US, sample_chunks, sample_documents, sample_id, sample_objects
from tests.format.spoiling import EDGES, commit_of, seal_leniently, spoilt, spoilt_commit
from tests.format.test_run import END, START
from tests.format.uses import USES
from tests.hostile.forging import bomb, checked, enveloped, mutated_json, sealed_list, spoilt_json

Case = Callable[[], object]
Make = Callable[[random.Random], Case]

_OBJECTS, _DOCUMENTS = sample_objects(), sample_documents()
_MOST_BYTES = 64 * 1024 * 1024


class HostileKind(NamedTuple):
    """One kind of object."""

    name: str
    make: Make
    share: int
    """Of the cases, beside the other kinds'."""


# --- objects that are named by their hash


def _object(name: str, rng: random.Random) -> Case:
    kind, logical, placement = _OBJECTS[name]
    way = rng.random()
    if way < 0.15:
        object_id, stored = seal_leniently(logical, placement)
        return partial(_use_stored, kind, object_id, spoilt(stored, rng))
    if kind is ObjectKind.COMMIT:
        logical = _spoilt_commit(logical, rng)
    elif kind is ObjectKind.SEGMENT:
        logical = kind.value + spoilt_json(logical[8:], rng)
    elif placement and way < 0.45:
        placement = spoilt(placement, rng)
    else:
        logical = kind.value + spoilt(logical[8:], rng)
    return partial(_use_stored, kind, *enveloped(logical, placement, rng))


def _spoilt_commit(logical: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.4:
        return spoilt_commit(logical, rng)
    (length,) = struct.unpack_from("<I", logical, 8)
    return commit_of(spoilt_json(logical[12 : 12 + length], rng), logical[12 + length :])


def _use_stored(kind: ObjectKind, object_id: bytes, stored: bytes) -> None:
    logical, placement = unseal(kind, object_id, stored)
    assert unseal_logical(kind, object_id, stored) == logical
    if kind is ObjectKind.PAGE:
        outline = Outline(logical)
        list(map(outline.path, range(len(outline))))
    USES[kind](logical, placement)
    if kind is ObjectKind.PAGE:
        _use_page(Page(logical, placement))
    placed_packs(placement)


def _use_page(page: Page) -> None:
    """As a listing does."""
    list(page.rows(0, len(page)))
    list(map(page.identity, range(len(page))))


# --- notes


def _document(name: str, parse: Callable[[bytes, str], object], rng: random.Random) -> Case:
    line = _NOTES[name].split(b"\n")[0]
    if rng.random() < 0.15:
        return partial(parse, spoilt(_NOTES[name], rng), "it")
    return partial(parse, checked(spoilt_json(line, rng)), "it")


def _marker(rng: random.Random) -> Case:
    return partial(parse_marker, spoilt_json(_DOCUMENTS["fsd.json"], rng), "it")


_NOTES = {
    **_DOCUMENTS,
    "refs index": encode_refs_index(
        {f"data/v{number}": IndexedRef(sample_id(number), 500, "1234567890") for number in range(3)}
    ),
    "lease": lease.encode_lease(lease.Lease("me", "commit", TIME_US, 900, 3)),
}


# --- sealed lists


def _list(magic: bytes, parse: Callable[[bytes, str], object], body: bytes, rng: random.Random) -> Case:
    way = rng.random()
    if way < 0.1:
        return partial(parse, spoilt(_sealed(magic, body), rng), "it")
    return partial(parse, sealed_list(magic, spoilt(body, rng), rng), "it")


def _sealed(magic: bytes, body: bytes) -> bytes:
    stored = compress_metadata(body)
    return struct.pack("<8sQ32s", magic, len(body), content_id(body)) + stored


def _body_of(magic: bytes, data: bytes) -> bytes:
    return unseal_list(magic, data, "it", _MOST_BYTES)


def _keys(rng: random.Random) -> Case:
    lines = [f"packs/{number:02}/x {TIME_US + number} {number}" for number in range(4)]
    for _ in range(rng.choice([1, 2])):
        parts = [rng.choice(["a", "", "\u0665", "\x85", "\udc80"]), rng.choice(["1" * 5000, "\u0665", "-1", "", "1"])]
        lines[rng.randrange(len(lines))] = f"{parts[0]} {parts[1]} {rng.choice(EDGES)}"
    body = "\n".join(lines).encode("utf-8", "surrogatepass")
    return partial(condemned.parse_keys, sealed_list(condemned.MAGIC, spoilt(body, rng), rng), "it")


def _json_list(magic: bytes, parse: Callable[[bytes, str], object], text: bytes, rng: random.Random) -> Case:
    return partial(parse, sealed_list(magic, spoilt_json(text, rng), rng), "it")


def _run(magic: bytes, encoded: bytes, parse: Callable[[bytes, str], object], rng: random.Random) -> Case:
    body = _body_of(magic, encoded)
    (length,) = struct.unpack_from("<I", body)
    text, rest = body[4 : 4 + length], body[4 + length :]
    if rng.random() < 0.6:
        text = spoilt_json(text, rng)
    elif rest:
        rest = _spoilt_inputs(rest, rng)
    said = rng.choice([len(text)] * 8 + [*EDGES]) % 2**32
    return partial(parse, sealed_list(magic, struct.pack("<I", said) + text + rest, rng), "it")


def _spoilt_inputs(data: bytes, rng: random.Random) -> bytes:
    """What a run read: a header of its own, and columns."""
    (length,) = struct.unpack_from("<I", data)
    text, columns = data[4 : 4 + length], data[4 + length :]
    match rng.randrange(3):
        case 0:
            text = spoilt_json(text, rng)
        case 1:
            columns = spoilt(columns, rng)
        case _:
            header = json.loads(text)
            header["versions"][0]["bytes"][rng.randrange(3)] += rng.choice([0, 1, -1, len(columns), 2**32])
            text = json.dumps(header).encode()
    return struct.pack("<I", len(text)) + text + columns


def _moved(rng: random.Random) -> Case:
    parse = partial(parse_moved, _spoilt_moved(rng), "it")

    def use() -> None:
        note = parse()
        for start in (0, 1, note.stored_bytes // 2, note.stored_bytes, 2**40):
            note.new_offset(start)
            note.holds(start, 10)
            list(note.pieces(start, 2**20))
        assert note.target_end >= 0

    return use


def _spoilt_moved(rng: random.Random) -> bytes:
    rows = [(sample_id(number), 10 + number, 20 + number) for number in range(6)]
    contents = Contents(b"".join(struct.pack("<32sII", *row) for row in rows))
    note = encode_moved(bytes(16), contents, array("Q", [0, LEFT_BEHIND, 50, 60, 90, 2**33]))
    return sealed_list(moved.MAGIC, spoilt(_body_of(moved.MAGIC, note), rng), rng)


# --- packs


def _pack_end(rng: random.Random) -> Case:
    pack = _DOCUMENTS["pack"]
    start = len(pack) - FOOTER_BYTES - 40 * len(sample_chunks())
    end = spoilt(pack[start:-32], rng)
    if rng.random() < 0.2:  # a table that the footer announces, and that is not there
        end = end[:-32] + struct.pack("<8sIIQQ", b"fsdpack1", rng.choice(EDGES) % 2**32, 0, start, start)
    end += content_id(end) if rng.random() < 0.8 else b""
    size = rng.choice([start + len(end)] * 6 + [*EDGES])

    def use() -> None:
        parse_footer(end, size, "it")
        list(parse_contents(end, size, "it"))

    return use


def _chunk(rng: random.Random) -> Case:
    plain = rng.choice(sample_chunks())
    stored = bomb(rng) if rng.random() < 0.3 else spoilt(compress_metadata(plain), rng)
    length = rng.choice([len(plain)] * 4 + [*EDGES, 16 * 1024 * 1024, 16 * 1024 * 1024 + 1])
    return partial(decode_chunk, content_id(plain), memoryview(stored), length)


_PATTERNS = (
    "*a" * 40,
    "**a" * 40,
    "**/*a" * 30,
    "/**" + "/*a*" * 20,
    "[!a-z]" * 9,
    "*" * 300,
    "?" * 250,
    "[",
    "a" * 70_000,
)
_NAMES = ((b"", b"a" * 255), (b"/".join([b"a" * 200] * 20), b"a" * 254 + b"c"), (b"train", b"x.jpg"))


def _rule(rng: random.Random) -> Case:
    body = {
        "sample_percent": rng.choice(["10", "0.5", "1e-99999999", "NaN", "1" * 4000]),
        "include": rng.choices(_PATTERNS, k=rng.choice([1, 2, 5])),
        "keep": [rng.choice(_PATTERNS)],
        "seed": rng.choice(EDGES),
    }
    text = json.dumps({name: body[name] for name in rng.sample(sorted(body), rng.randrange(1, 5))}).encode()
    data = mutated_json(text, rng) if rng.random() < 0.5 else text

    def use() -> None:
        try:
            rule = Rule.from_json(decode_json(data))
        except ValueError as error:  # whoever reads JSON says whose it is
            raise CorruptDataError(f"{error}"[:100]) from error
        matcher = Matcher(rule)
        for directory, name in _NAMES:
            matcher.kept(directory, name)
            matcher.candidate_hash(directory, name)

    return use


def _noise(rng: random.Random) -> Case:
    noise = rng.randbytes(rng.choice([0, 1, 7, 32, 48, 200, 3000]))
    uses: list[Callable[[], object]] = [
        *(partial(use, kind.value + noise, noise) for kind, use in USES.items()),
        *(partial(unseal, kind, bytes(32), b"fsd1" + noise) for kind in USES),
        partial(parse_ref, noise, "it"),
        partial(parse_contents, noise, len(noise), "it"),
    ]
    return rng.choice(uses)


# --- all of them


def _sample_lists() -> dict[str, Make]:
    packs = frozenset({b"p" * 16, b"q" * 16})
    condemnation = condemned.encode_condemnation(condemned.Condemnation(3, packs, frozenset({b"c" * 32})))
    commits = replaced.encode_replaced({sample_id(1): sample_id(2), sample_id(3): None})
    doomed = {"keys": ["packs/00/x"], "chunks": [sample_id(1).hex()], "contents": [sample_id(2).hex()]}
    return {
        "condemnation": partial(
            _list, condemned.MAGIC, condemned.parse_condemnation, _body_of(condemned.MAGIC, condemnation)
        ),
        "condemned keys": _keys,
        "replaced": partial(_list, replaced.MAGIC, replaced.parse_replaced, _body_of(replaced.MAGIC, commits)),
        "purge note": partial(_json_list, purge.MAGIC, purge._Doomed.decode, json.dumps(doomed).encode()),
        "run start": partial(_run, run.START_MAGIC, run.encode_run_start(START), run.parse_run_start),
        "run end": partial(_run, run.END_MAGIC, run.encode_run_end(END), run.parse_run_end),
        "moved": _moved,
    }


def _all() -> list[HostileKind]:
    shares: dict[str, Any] = {"page": 6, "index": 3, "recipe-0": 3, "commit": 3}
    kinds = [HostileKind(name, partial(_object, name), shares.get(name, 1)) for name in _OBJECTS]
    kinds += [HostileKind(name, partial(_document, name, parse_ref), 2) for name in ("branch", "subset-ref")]
    kinds += [
        HostileKind("refs index", partial(_document, "refs index", parse_refs_index), 1),
        HostileKind("lease", partial(_document, "lease", lease.parse_lease), 1),
        HostileKind("fsd.json", _marker, 1),
        HostileKind("pack's contents", _pack_end, 2),
        HostileKind("chunk", _chunk, 1),
        HostileKind("rule", _rule, 1),
        HostileKind("noise", _noise, 1),
    ]
    return kinds + [HostileKind(name, make, 1) for name, make in _sample_lists().items()]


KINDS = _all()
