"""Bytes that are meant to do harm: numbers, JSON and zstd frames beyond what is reasonable, with checksums that fit.

Everything is made from a `random.Random`, and comes out the same again.
"""

from __future__ import annotations

import json
import random
import struct
from functools import cache
from typing import Any

import zstandard

from fsd.format.compress import compress_metadata
from fsd.ids import content_id
from tests.format.spoiling import EDGES, spoilt

KIB, MIB = 1024, 1024 * 1024

_SEALED_LIST = struct.Struct("<8sQ32s")
_ENVELOPE = struct.Struct("<4sIIII8s")

_PLACEHOLDER = "\ue000"

SMALL_TEXTS = (
    "null", "true", "-1", "0", "1.5", "1e999", "-0.0", "NaN", "Infinity", '""', '"\\ud800"', '"\\u0000"', "[]", "{}",
    "[[[[1]]]]", '"a/b"', '".."', '"00"', '{"a":1,"a":2}', str(2**53), str(2**63), str(2**64), str(2**64 - 1), "1e-400",
)  # fmt: skip
"""JSON values, as they are written."""


@cache
def large_texts() -> tuple[str, ...]:
    """The same, of some size."""
    return (
        "1" * 4000,
        "1" * 5000,
        "1." + "1" * 5000,
        "[" * 40 + "]" * 40,
        "[" * 900 + "]" * 900,
        "[" * 20_000 + "]" * 20_000,
        '{"a":' * 30 + "1" + "}" * 30,
        '{"a":' * 5000 + "1" + "}" * 5000,
        "[" * 20_000,
        "[" + "0," * 20_000 + "0]",
        "[" + "[]," * 20_000 + "[]]",
        "{" + ",".join(f'"{number}":{{}}' for number in range(5000)) + "}",
        '"' + "x" * 100_000 + '"',
        '"' + "\\n" * 30_000 + '"',
        '"' + "\u00fc" * 30_000 + '"',
        " " * 60_000 + "1",
    )


def mutated_json(text: bytes, rng: random.Random) -> bytes:
    """JSON in which a few values, anywhere, are others, are gone, or are there twice. `text` is valid."""
    value = json.loads(text)
    raws = []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        holders = list(_holders(value))
        if not holders:
            break
        holder, key = rng.choice(holders)
        match rng.randrange(8):
            case 0:
                del holder[key]
            case 1:
                other, other_key = rng.choice(holders)
                if _is_in(other, other_key):
                    holder[key] = json.loads(json.dumps(other[other_key]))
            case 2 if isinstance(holder, list):
                holder += json.loads(json.dumps(holder)) * rng.choice([1, 2, 50])
            case 3 if isinstance(holder, dict):
                holder[rng.choice(["", "x", "..", "a/b", "\x00", "é" * 300, "__proto__"])] = holder[key]
            case 4 if isinstance(holder[key], int):
                holder[key] = rng.choice(EDGES) - rng.choice([0, 0, 1, 2**63])
            case _:
                holder[key] = f"{_PLACEHOLDER}{len(raws)}{_PLACEHOLDER}"
                raws.append(rng.choice(large_texts() if rng.random() < 0.1 else SMALL_TEXTS))
    changed = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for number, raw in enumerate(raws):
        changed = changed.replace(f'"{_PLACEHOLDER}{number}{_PLACEHOLDER}"', raw)
    return changed.encode("utf-8", "surrogatepass")


def _holders(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from _holders(inner)


def _is_in(holder: Any, key: Any) -> bool:
    return key in holder if isinstance(holder, dict) else key < len(holder)


def spoilt_json(text: bytes, rng: random.Random) -> bytes:
    """JSON that was spoilt as a tree, or as bytes."""
    return mutated_json(text, rng) if rng.random() < 0.8 else spoilt(text, rng)


# --- zstd


@cache
def frame_of(byte: int, size: int, *, says_size: bool = True, level: int = 3, window_log: int = 0) -> bytes:
    """A frame of `size` equal bytes: some kilobytes for a gigabyte."""
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level, window_log=window_log, write_content_size=int(says_size)
    )
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    stream = compressor.compressobj(size=size if says_size else -1)
    piece = bytes([byte]) * min(size, MIB)
    parts = [stream.compress(piece) for _ in range(size // MIB)] if size > MIB else [stream.compress(piece)]
    return b"".join([*parts, stream.flush()])


_FRAMES = [
    (byte, size, says_size, window_log)
    for byte in (0, 0x5B, 0xFF)
    for size in (0, 1, 64 * KIB, 256 * KIB, MIB, 64 * MIB, 256 * MIB)
    for says_size in (True, True, False)
    for window_log in (0, 10, 27)
    if size < 64 * MIB or (byte == 0 and window_log != 10)
]


def warm_up() -> None:
    """Make all frames, which takes more memory than any reader should: before that is measured."""
    for byte, size, says_size, window_log in _FRAMES:
        frame_of(byte, size, says_size=says_size, window_log=window_log)


def bomb(rng: random.Random) -> bytes:
    """What unpacks to far more than it should, or says so, or says nothing."""
    byte, size, says_size, window_log = rng.choice(_FRAMES)
    frame = frame_of(byte, size, says_size=says_size, window_log=window_log)
    match rng.randrange(6):
        case 0:
            return frame * 2
        case 1:
            return struct.pack("<II", 0x184D2A50, 4) + b"skip" + frame
        case 2:
            return frame[: rng.randrange(len(frame) + 1)]
        case 3:  # the size that it says is another: eight bytes behind a descriptor
            return struct.pack("<IBBQ", 0xFD2FB528, 3 << 6, rng.randrange(256), rng.choice(EDGES)) + frame[6:]
        case _:
            return frame


def compressed(body: bytes, rng: random.Random) -> tuple[int, bytes]:
    """What a header says of the size of a body, and how it is stored: mostly as it should be."""
    if rng.random() < 0.9:
        return len(body), compress_metadata(body)
    stored = bomb(rng) if rng.random() < 0.7 else spoilt(compress_metadata(body), rng)
    return rng.choice([len(body), *EDGES, 256 * KIB, MIB, 64 * MIB, 64 * MIB + 1]), stored


# --- checksums that fit


def checked(line: bytes) -> bytes:
    """A checked note of any line."""
    return line + b"\n" + content_id(line).hex().encode() + b"\n"


def sealed_list(magic: bytes, body: bytes, rng: random.Random) -> bytes:
    """A sealed list of any body."""
    size, stored = compressed(body, rng)
    return _SEALED_LIST.pack(magic, size % 2**64, content_id(body)) + stored


def enveloped(logical: bytes, placement: bytes, rng: random.Random) -> tuple[bytes, bytes]:
    """An id that fits, and an envelope of any two parts."""
    first_size, first = compressed(logical, rng)
    second_size, second = compressed(placement, rng)
    head = _ENVELOPE.pack(
        b"fsd1", first_size % 2**32, len(first), second_size % 2**32, len(second), content_id(placement)[:8]
    )
    return content_id(logical), head + first + second
