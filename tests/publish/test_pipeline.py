"""The pipeline: results in order whoever is slow, and threads by what they are good for."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
import trio

from fsd.format.chunker import ChunkerParams
from fsd.limits import KIB, MIB, Limits
from fsd.publish import pipeline as pipeline_module
from fsd.publish.delta import ALONE_BYTES, Batch
from fsd.publish.ingest import FolderFiles, ReadFile
from fsd.publish.pipeline import Pipeline
from fsd.publish.source import Found, SourceFolder
from fsd.repo.builder import Removal
from tests.publish.folders import Counting

LIMITS = Limits(publish_threads=3, publish_queue_bytes=6 * MIB)


def found_in(top: Path, name: str) -> Found:
    status = os.lstat(top / name)
    return Found(
        b"", os.fsencode(name), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_mode
    )


def batches_of(top: Path, *batches: list[str]) -> Iterator[Batch]:
    """A batch for each list of names; a name that is not there has been removed."""
    for names in batches:
        changes = [found_in(top, name) if (top / name).exists() else Removal(b"", name.encode()) for name in names]
        yield Batch(changes, sum(change.size for change in changes if isinstance(change, Found)), len(names), 7)


async def read_all(top: Path, batches: Iterator[Batch], params: ChunkerParams, progress: Counting) -> list[str]:
    """The names in the order of the results; a part of a large file that is not its last has a '+'."""
    names: list[str] = []
    readied = 0

    async def ready() -> None:
        nonlocal readied
        readied += 1

    with SourceFolder(str(top)) as source:
        pipeline = Pipeline(FolderFiles(source), params, lambda _: False, LIMITS, progress, ready)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pipeline.run, batches)
            async with aclosing(pipeline.results()) as results:
                async for reads in results:
                    names += [
                        each.found.name.decode() + ("+" if each.content is None else "")
                        if isinstance(each, ReadFile)
                        else each.name.decode()
                        for each in reads
                    ]
    assert readied == (pipeline.files_read > 0)
    return names


async def test_results_are_in_order(tmp_path: Path) -> None:
    sizes = {"a": 10, "b": 3 * MIB, "c": 0, "d": 9 * MIB, "e": 200_000, "f": 5, "g": ALONE_BYTES}
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(os.urandom(size))
    progress = Counting()
    names = await read_all(
        tmp_path,
        batches_of(tmp_path, ["a"], ["b"], ["c", "cc"], [], ["d"], ["e", "f"], ["g"]),
        ChunkerParams(),
        progress,
    )
    assert list(dict.fromkeys(name.rstrip("+") for name in names)) == ["a", "b", "c", "cc", "d", "e", "f", "g"]
    assert names.count("d+") == 2
    assert names.count("d") == 1
    assert progress.was_read == (7, sum(sizes.values()))
    assert progress.unread == (8, 7 * 7)


async def test_a_large_file_that_is_one_chunk(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(os.urandom(3 * MIB))
    params = ChunkerParams(average=1024, whole_file=4 * MIB)
    assert await read_all(tmp_path, batches_of(tmp_path, ["f"]), params, Counting()) == ["f"]


async def test_nothing_to_read(tmp_path: Path) -> None:
    assert await read_all(tmp_path, batches_of(tmp_path, [], ["gone"]), ChunkerParams(), Counting()) == ["gone"]


def test_tiny_files_get_threads_when_nobody_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = {"wall": 0.0, "processor": 0.0}
    monkeypatch.setattr(time, "monotonic", lambda: clock["wall"])
    monkeypatch.setattr(time, "process_time", lambda: clock["processor"])
    tiny = pipeline_module._TinyFiles(most=5)
    threads = []
    for wall, processor in [(0.1, 0.0), (1.0, 0.1), (1.0, 0.9), (0.01, 0.0), (1.0, 1.8), (1.0, 0.2)]:
        clock["wall"] += wall
        clock["processor"] += processor
        tiny.adapt()
        threads.append(tiny.threads.total_tokens)
    assert threads == [1, 5, 1, 1, 1, 5]
    assert KIB < pipeline_module.TINY_BYTES < 20 * KIB
