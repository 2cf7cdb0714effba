"""A reader written from `docs/format.md` alone: it knows nothing of fsd, and shares no code with it.

Slow, and reads a store in a folder; but it checks what the document tells a reader to check.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import zstandard
from blake3 import blake3

LOGICAL_AT_MOST = {b"fsdcomm1": 1_310_784, b"fsdsegm1": 1 << 20}
FILE, DIRECTORY, SYMLINK = 1, 2, 3
Piece = tuple[bytes, int]
Place = tuple[bytes, int, int]
Child = tuple[bytes, bytes, tuple[int, int, int]]


class Item(NamedTuple):
    """An entry as a user sees it; `data` is a file's bytes, or a symlink's target."""

    path: bytes
    kind: int
    executable: bool
    data: bytes


def blake(data: bytes) -> bytes:
    return blake3(data).digest()


def check(good: bool, what: str) -> None:
    if not good:
        raise ValueError(f"this is not what the document says: {what}")


def plain(stored: bytes, length: int) -> bytes:
    if len(stored) == length:
        return stored
    check(len(stored) < length == zstandard.frame_content_size(stored), "stored form")
    return zstandard.ZstdDecompressor().decompress(stored, max_output_size=length, allow_extra_data=False)


def numbers(form: str, count: int, data: bytes, at: int) -> tuple[list[int], int]:
    row = struct.Struct(f"<{count}{form}")
    check(at + row.size <= len(data), "column")
    return list(row.unpack_from(data, at)), at + row.size


def blobs(lengths: list[int], data: bytes, at: int) -> tuple[list[bytes], int]:
    ends = list(accumulate(lengths, initial=at))
    check(ends[-1] <= len(data), "blob")
    return [data[start:end] for start, end in pairwise(ends)], ends[-1]


class SecondReader:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests = 0
        marker = json.loads((folder / "fsd.json").read_bytes())
        check(marker["format"] == "fsd" and marker["version"] == 1 and not marker["features"]["read"], "marker")

    def get(self, key: str, start: int = 0, length: int = -1) -> bytes:
        self.requests += 1
        with (self.folder / key).open("rb") as file:
            file.seek(start)
            return file.read(length)

    def unseal(self, folder: str, object_id: bytes, magic: bytes) -> tuple[bytes, bytes]:
        name = object_id.hex()
        data = self.get(f"commits/{name}" if folder == "commits" else f"{folder}/{name[:2]}/{name}")
        check(len(data) >= 28, "envelope")
        start, size, stored, placement_size, placement_stored, sum8 = struct.unpack_from("<4sIIII8s", data)
        check(start == b"fsd1" and len(data) == 28 + stored + placement_stored, "envelope")
        check(size <= LOGICAL_AT_MOST.get(magic, 1 << 18) and placement_size <= 1 << 18, "sizes")
        logical, placement = plain(data[28 : 28 + stored], size), plain(data[28 + stored :], placement_size)
        check(blake(logical) == object_id and logical[:8] == magic and blake(placement)[:8] == sum8, "id")
        return logical, placement

    def ref(self, repository: str, name: str) -> dict[str, Any]:
        line, check_line, rest = self.get(f"refs/{repository}/{name}").split(b"\n")
        check(blake(line).hex().encode() == check_line and rest == b"", "ref")
        return dict(json.loads(line))

    def log(self, ref: dict[str, Any]) -> list[dict[str, Any]]:
        ids = [bytes.fromhex(segment["id"]) for segment in ref.get("segments", [])]
        older = [json.loads(self.unseal("logs", segment, b"fsdsegm1")[0][8:]) for segment in ids]
        return [*chain.from_iterable(older), *ref["moves"]]

    def resolve(self, repository: str, name: str, subset: str | None = None) -> bytes:
        commit: str = self.ref(repository, name)["moves"][-1]["commit"]
        if subset is not None:
            moves = self.log(self.ref(repository, subset))
            commit = next(move["commit"] for move in reversed(moves) if move["source"] == commit)
        return bytes.fromhex(commit)

    def commit(self, commit_id: bytes) -> tuple[dict[str, Any], bytes]:
        logical, _ = self.unseal("commits", commit_id, b"fsdcomm1")
        (length,) = struct.unpack_from("<I", logical, 8)
        header = json.loads(logical[12 : 12 + length])
        check(blake(logical[12 + length :]).hex() == header["tree"], "root")
        return header, logical[12 + length :]

    def index(self, logical: bytes) -> tuple[int, list[Child]]:
        check(logical[:8] == b"fsdindx1", "index")
        (level, count), at = numbers("I", 2, logical, 8)
        lengths, at = numbers("H", count, logical, at)
        keys, at = blobs(lengths, logical, at)
        ids, at = blobs([32] * count, logical, at)
        columns, at = numbers("Q", 3 * count, logical, at)
        check(at == len(logical) and keys == sorted(set(keys)) and level <= 8, "index")
        totals = zip(columns[:count], columns[count : 2 * count], columns[2 * count :], strict=True)
        return level, list(zip(keys, ids, totals, strict=True))

    def walk(self, root: bytes) -> Iterator[Item]:
        level, children = self.index(root)
        for key, child, totals in children:
            if level:
                logical, _ = self.unseal("pages", child, b"fsdindx1")
                below, grandchildren = self.index(logical)
                sums = tuple(map(sum, zip(*(each[2] for each in grandchildren), strict=True)))
                check(below == level - 1 and grandchildren[0][0] == key and sums == totals, "child")
            yield from self.walk(logical) if level else self.page(child, key, totals[0])

    def find(self, root: bytes, path: bytes) -> Item | None:
        key = b"%b\0\0%b" % (path.rpartition(b"/")[0].replace(b"/", b"\0"), path.rpartition(b"/")[2])
        while True:
            level, children = self.index(root)
            below = [child for child in children if child[0] <= key]
            if not below or level == 0:
                return next(self.page(below[-1][1], below[-1][0], below[-1][2][0], path), None) if below else None
            root, _ = self.unseal("pages", below[-1][1], b"fsdindx1")

    def page(self, page_id: bytes, first_key: bytes, entries: int, wanted: bytes | None = None) -> Iterator[Item]:
        logical, placement = self.unseal("pages", page_id, b"fsdpage1")
        (n, d, p, *_), at = numbers("I", 6, logical, 8)
        check(n == entries and 0 < d <= n, "page")
        in_directory, at = numbers("I", d, logical, at)
        path_lengths, at = numbers("H", d, logical, at)
        name_lengths, at = numbers("B", n, logical, at)
        flags, at = numbers("B", n, logical, at)
        counts, at = numbers("B", n, logical, at)
        sizes, at = numbers("Q", n, logical, at)
        contents, at = blobs([32] * n, logical, at)
        paths, at = blobs(path_lengths, logical, at)
        names, at = blobs(name_lengths, logical, at)
        links = [size if flag & 3 == SYMLINK else 0 for size, flag in zip(sizes, flags, strict=True)]
        targets, at = blobs(links, logical, at)
        ids, at = blobs([32] * p, logical, at)
        lengths, at = numbers("Q", p, logical, at)
        check(at == len(logical) and sum(in_directory) == n, "page")
        chunks, explicit = self.placements(placement), iter(zip(ids, lengths, strict=True))
        where = [path for path, count in zip(paths, in_directory, strict=True) for _ in range(count)]
        keys = [b"%b\0\0%b" % (path.replace(b"/", b"\0"), name) for path, name in zip(where, names, strict=True)]
        check(keys == sorted(set(keys)) and keys[0] == first_key, "order")
        for at in range(n):
            check(names[at] not in (b"", b".", b"..") and not set(names[at]) & set(b"/\0"), "name")
            path = (where[at] + b"/" + names[at]).removeprefix(b"/")
            kind, level = flags[at] & 3, flags[at] >> 3
            implicit = level == 0 and counts[at] == 1
            pieces = [(contents[at], sizes[at])] if implicit else [next(explicit) for _ in range(counts[at])]
            places = [next(chunks) for _ in pieces] if level == 0 else []
            if wanted is not None and path != wanted:
                continue
            data = targets[at] if kind == SYMLINK else b"".join(self.read(level, pieces, places))
            expected = bytes(32) if kind == DIRECTORY else blake(data)
            check(len(data) == sizes[at] and contents[at] == expected, "content")
            yield Item(path, kind, bool(flags[at] & 4), data)
        check(wanted is not None or (next(explicit, None) is None and next(chunks, None) is None), "left over")

    def placements(self, part: bytes) -> Iterator[Place]:
        (k, c), at = numbers("I", 2, part, 0) if part else ([0, 0], 0)
        packs, at = blobs([16] * k, part, at)
        which, at = numbers("I", c, part, at)
        offsets, at = numbers("Q", c, part, at)
        stored, at = numbers("I", c, part, at)
        _, at = numbers("Q", c, part, at)
        check(at == len(part), "placements")
        yield from zip([packs[number] for number in which], offsets, stored, strict=True)

    def read(self, level: int, pieces: Sequence[Piece], places: Sequence[Place]) -> Iterator[bytes]:
        if level == 0:
            for (chunk, length), (pack, offset, stored) in zip(pieces, places, strict=True):
                data = plain(self.get(f"packs/{pack.hex()[:2]}/{pack.hex()}", offset, stored), length)
                check(blake(data) == chunk, "chunk")
                yield data
            return
        for recipe, length in pieces:
            logical, placement = self.unseal("recipes", recipe, b"fsdrecp1")
            (below, n), at = numbers("I", 2, logical, 8)
            ids, at = blobs([32] * n, logical, at)
            lengths, at = numbers("Q", n, logical, at)
            check(at == len(logical) and below == level - 1 and sum(lengths) == length, "recipe")
            yield from self.read(below, list(zip(ids, lengths, strict=True)), list(self.placements(placement)))
