"""Reading: by windows as at once, over holes as over zeros, and what is wrong is said."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from fsd.format.chunker import Chunker, ChunkerParams
from fsd.format.compress import decompress
from fsd.ids import content_id
from fsd.limits import KIB, MIB
from fsd.publish import ingest
from fsd.publish.ingest import FolderFiles, LargeFile, ReadFile, form_chunks, read_batch, stored_form
from fsd.publish.source import STATUS, ChangedError, Found, SourceFolder

PARAMS = ChunkerParams(average=4 * KIB, whole_file=8 * KIB)


def holds_none(_chunk: bytes) -> bool:
    return False


def holds_all(_chunk: bytes) -> bool:
    return True


def found_in(top: Path, name: str) -> Found:
    status = os.lstat(top / name)
    return Found(
        b"", os.fsencode(name), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_mode
    )


def read_large(top: Path, name: str) -> tuple[list[bytes], list[int], bytes, int]:
    """Ids and lengths of the chunks, the content, and how many windows were holes."""
    ids, lengths, holes = [], [], 0
    with SourceFolder(os.fsencode(top)) as source:
        large = LargeFile(source, found_in(top, name), PARAMS)
        content = None
        while content is None:
            window = large.next_window()
            holes += window.equal
            chunks = form_chunks(window, holds_none)
            ids += [chunk.id for chunk in chunks]
            lengths += [chunk.length for chunk in chunks]
            content = window.content
        large.close()
        large.close()
    return ids, lengths, content, holes


def expected(data: bytes) -> tuple[list[bytes], list[int], bytes]:
    lengths = Chunker(PARAMS).cut(data, last=True)
    ids, at = [], 0
    for length in lengths:
        ids.append(content_id(data[at : at + length]))
        at += length
    return ids, lengths, content_id(data)


@pytest.mark.parametrize("size", [1, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 300_000, 1_000_003])
def test_windows_make_the_chunks_that_the_whole_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(ingest, "WINDOW_BYTES", 64 * KIB)
    data = random.Random(size).randbytes(size)
    (tmp_path / "f").write_bytes(data)
    assert read_large(tmp_path, "f")[:3] == expected(data)


@pytest.mark.parametrize("start", [0, 5000])
@pytest.mark.parametrize("end", [0, 1, 70_000])
def test_holes_make_the_chunks_that_zeros_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: int, end: int
) -> None:
    monkeypatch.setattr(ingest, "WINDOW_BYTES", 64 * KIB)
    data = random.Random(1).randbytes(start) + bytes(2 * MIB) + random.Random(2).randbytes(end)
    with open(tmp_path / "f", "wb") as out:
        out.truncate(len(data))
        out.write(data[:start])
        out.seek(len(data) - end)
        out.write(data[len(data) - end :])
    ids, lengths, content, holes = read_large(tmp_path, "f")
    assert (ids, lengths, content) == expected(data)
    assert holes > 0, "this file system knows no holes"


def test_a_hole_does_not_pass_for_one_chunk_without_bound(tmp_path: Path) -> None:
    with open(tmp_path / "f", "wb") as out:
        out.truncate(200 * MIB)
    with SourceFolder(os.fsencode(tmp_path)) as source:
        large = LargeFile(source, found_in(tmp_path, "f"), PARAMS)
        assert len(large.next_window().lengths) == 1024
        large.close()


def read_one(top: Path, name: str, found: Found | None = None) -> ReadFile:
    with SourceFolder(os.fsencode(top)) as source:
        (read,) = read_batch(FolderFiles(source), [found or found_in(top, name)], PARAMS, holds_none)
    assert isinstance(read, ReadFile)
    return read


@pytest.mark.parametrize("size", [0, 1, 8 * KIB, 8 * KIB + 1, 50_000])
def test_small_files(tmp_path: Path, size: int) -> None:
    data = random.Random(size).randbytes(size)
    (tmp_path / "f").write_bytes(data)
    read = read_one(tmp_path, "f")
    assert read.content == content_id(data)
    assert b"".join(bytes(chunk.plain) for chunk in read.chunks) == data
    assert all(chunk.id == content_id(chunk.plain) for chunk in read.chunks)
    assert (len(read.chunks) <= 1) == (size <= PARAMS.whole_file)


def test_known_chunks_are_not_compressed(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"text " * 1000)
    with SourceFolder(os.fsencode(tmp_path)) as source:
        (read,) = read_batch(FolderFiles(source), [found_in(tmp_path, "f")], PARAMS, holds_all)
    assert isinstance(read, ReadFile)
    assert [chunk.stored for chunk in read.chunks] == [None]
    (chunk,) = read_one(tmp_path, "f").chunks
    assert chunk.stored is not None
    assert len(chunk.stored) < 200
    assert decompress(chunk.stored, chunk.length, "it") == b"text " * 1000
    assert stored_form(b"short") == b"short"


@pytest.mark.parametrize("field", ["size", "mtime_ns", "ctime_ns", "mode"])
def test_a_file_that_is_not_what_was_seen(tmp_path: Path, field: str) -> None:
    (tmp_path / "f").write_bytes(b"content")
    found = found_in(tmp_path, "f")
    other = found._replace(**{field: getattr(found, field) + 1})
    with pytest.raises(ChangedError, match="/f changed"):
        read_one(tmp_path, "f", other)
    with SourceFolder(os.fsencode(tmp_path)) as source, pytest.raises(ChangedError, match="/f changed"):
        LargeFile(source, other, PARAMS).next_window()


def test_a_file_that_was_only_numbered_anew(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"content")
    found = found_in(tmp_path, "f")
    assert read_one(tmp_path, "f", found._replace(inode=found.inode + 1)).content == content_id(b"content")


def test_a_file_that_turned_into_a_fifo_does_not_hang_us(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"content")
    found = found_in(tmp_path, "f")
    (tmp_path / "f").unlink()
    os.mkfifo(tmp_path / "f")
    with pytest.raises(ChangedError):
        read_one(tmp_path, "f", found)
    assert STATUS.size == 40
