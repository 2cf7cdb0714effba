"""Valid objects, spoilt: as they are stored, and in their inner parts, sealed again with a fitting id and checksum."""

from __future__ import annotations

import json
import random
import struct
from contextlib import suppress

from fsd.errors import CorruptDataError
from fsd.format.compress import compress_metadata
from fsd.format.index import Index
from fsd.format.keys import ObjectKind
from fsd.ids import content_id

EDGES = [0, 1, 2, 63, 64, 65, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]
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
    data[at : at + width] = (rng.choice(EDGES) % 256**width).to_bytes(width, "little")


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


def commit_of(text: bytes, rest: bytes) -> bytes:
    """The logical part of a commit with that header and root, fitting or not."""
    return ObjectKind.COMMIT.value + struct.pack("<I", len(text)) + text + rest


def spoilt_commit(logical: bytes, rng: random.Random) -> bytes:
    """A commit whose header, root or both are spoilt, the header naming the root that there is."""
    (length,) = struct.unpack_from("<I", logical, 8)
    text, root = logical[12 : 12 + length], logical[12 + length :]
    if rng.random() < 0.5:
        return commit_of(spoilt(text, rng), root)
    root = spoilt(root, rng)
    header = json.loads(text)
    header["tree"] = content_id(root).hex()
    with suppress(CorruptDataError):
        header["totals"] = Index(root).totals._asdict()
    return commit_of(json.dumps(header).encode(), root)


def seal_leniently(logical: bytes, placement: bytes) -> tuple[bytes, bytes]:
    """What `seal` makes, of whatever bytes."""
    first, second = compress_metadata(logical), compress_metadata(placement)
    check = content_id(placement)[:8]
    header = struct.pack("<4sIIII8s", b"fsd1", len(logical), len(first), len(placement), len(second), check)
    return content_id(logical), header + first + second
