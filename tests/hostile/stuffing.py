"""Objects that are as large as the format allows, or say so, and take a few kilobytes in a store."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from functools import partial

from fsd.format.condemned import MAGIC as CONDEMNED_MAGIC
from fsd.format.condemned import parse_condemnation, parse_keys
from fsd.format.inputs import decode_inputs
from fsd.format.moved import MAGIC as MOVED_MAGIC
from fsd.format.moved import parse_moved
from fsd.format.ref import parse_ref
from fsd.format.refs_index import parse_refs_index
from fsd.format.replaced import MAGIC as REPLACED_MAGIC
from fsd.format.replaced import parse_replaced
from tests.hostile.forging import MIB, checked, sealed_list

_VALUES = (b"[]", b"{}", b"1000", b'"ab"', b"1.5", b'{"a":1}', b"[[[]]]")


def stuffed(rng: random.Random) -> Callable[[], object]:
    """One of them, small or at its limit, and what parses it."""
    return rng.choice([_packs, _keys, _commits, _moved, _refs_index, _ref, _positions])(rng)


def _packs(rng: random.Random) -> Callable[[], object]:
    count = rng.choice([MIB, 4 * MIB - 1])
    body = struct.pack("<III", 1, count, 0) + b"".join(struct.pack("<QQ", number, 1) for number in range(count))
    return partial(parse_condemnation, sealed_list(CONDEMNED_MAGIC, body, rng), "it")


def _keys(rng: random.Random) -> Callable[[], object]:
    body = b"\n".join([b"a 1 1"] * rng.choice([100_000, 100_001, 10 * MIB]))
    return partial(parse_keys, sealed_list(CONDEMNED_MAGIC, body, rng), "it")


def _commits(rng: random.Random) -> Callable[[], object]:
    body = b"".join(struct.pack(">Q24x32s", number, b"x") for number in range(rng.choice([10_000, MIB])))
    return partial(parse_replaced, sealed_list(REPLACED_MAGIC, body, rng), "it")


def _moved(rng: random.Random) -> Callable[[], object]:
    count = rng.choice([100_000, MIB, MIB + 1])
    body = bytes(16) + struct.pack("<I", count) + struct.pack("<32sII", b"c", 1, 1) * count + bytes(8 * count)
    return partial(parse_moved, sealed_list(MOVED_MAGIC, body, rng), "it")


def _json_of(rng: random.Random, size: int) -> bytes:
    value = rng.choice(_VALUES)
    if rng.random() < 0.5:
        return b"[" + b",".join([value] * (size // (len(value) + 1))) + b"]"
    return b"{" + b",".join(b'"%x":%b' % (number, value) for number in range(size // (len(value) + 9))) + b"}"


def _refs_index(rng: random.Random) -> Callable[[], object]:
    return partial(
        parse_refs_index, checked(b'{"refs":' + _json_of(rng, rng.choice([MIB, 32 * MIB - 100])) + b"}"), "it"
    )


def _ref(rng: random.Random) -> Callable[[], object]:
    name = rng.choice([b"moves", b"segments", b"follow", b"x"])
    return partial(parse_ref, checked(b'{"kind":"tag","%b":%b}' % (name, _json_of(rng, MIB - 200))), "it")


def _positions(rng: random.Random) -> Callable[[], object]:
    columns = rng.choice([b"\1", b"\0", b"\x81\1", b"a\0"]) * rng.choice([MIB, 15 * MIB])
    sizes = rng.choice([[len(columns), 0, 0], [0, 0, len(columns)]])
    header = b'{"versions":[{"repository":"r","name":"v","commit":"%b","identified":true,"bytes":%b}],' % (
        b"0" * 64,
        str(sizes).encode(),
    )
    header += b'"names":[],"listings":[],"problem":""}'
    return partial(decode_inputs, struct.pack("<I", len(header)) + header + columns, "it")
