"""Folders to publish, the same for the same seed."""

from __future__ import annotations

import random
from pathlib import Path


def noise(seed: int, size: int) -> bytes:
    """Bytes that do not compress and that no other seed gives."""
    return random.Random(seed).randbytes(size)


def text(seed: int, size: int) -> bytes:
    """Bytes that compress to about half."""
    return noise(seed, size // 2 + 1).hex().encode()[:size]


def write_dataset(folder: Path, seed: int, *, small: int, large: int, large_bytes: int) -> Path:
    """`small` files of up to 80 KB in directories of 40, `large` ones of about `large_bytes`; a third is text."""
    chosen = random.Random(seed)
    for number in range(small):
        path = folder / f"d{number // 40}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = text if number % 3 == 0 else noise
        path.write_bytes(kind(1000 * seed + number, chosen.randrange(80_000)))
    for number in range(large):
        path = folder / "large" / f"l{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = text if number % 3 == 0 else noise
        path.write_bytes(kind(10**9 + 1000 * seed + number, large_bytes + 1000 * number))
    return folder
