"""A store from Python: what is in it, its bytes by any range, and the same from other processes."""

from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

import fsd
from fsd.client.store import Store, Version
from fsd.errors import FsdWarning, NotFoundError, UsageError
from fsd_cli.main import main
from tests.client.conftest import FILES
from tests.models.test_files import checkpoint


@pytest.fixture
def opened(store: Store) -> Iterator[Store]:
    with store:
        yield store


@pytest.fixture
def v1(opened: Store) -> Version:
    return opened.version("birds/v1")


def test_importing_fsd_is_light() -> None:
    heavy = ("blake3", "google", "numpy", "pyfuse3", "random", "rocksdict", "trio", "zstandard")
    parts = ("fsd.cache", "fsd.daemon", "fsd.format", "fsd.fuse", "fsd.repo", "fsd.shuffle", "fsd.stores")
    code = f"import sys, fsd; print([name for name in sys.modules if name.startswith({heavy + parts!r})])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_fsd_has_no_other_names() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = fsd.nothing  # type: ignore[attr-defined]


def test_what_is_in_a_store(opened: Store) -> None:
    assert opened.repositories() == ["birds"]
    assert opened.refs("birds") == {"few": "subset", "main": "branch", "v1": "tag"}


def test_versions(opened: Store) -> None:
    v1, main, few = (opened.version(f"birds/{name}") for name in ("v1", "main", "v1+few"))
    assert opened.version("birds").commit == main.commit != v1.commit == few.commit
    assert (v1.subset, few.subset) == (None, "few")
    assert opened.version(few.name).name == few.name == f"birds/{v1.commit}+few"
    assert not v1.exists("new")
    assert main.exists("new")
    assert [info.name for info in few.list("train")] == [f"{number:02}.txt" for number in range(10)]
    assert len(list(opened.version("birds/v1+50pct").walk())) < len(list(v1.walk()))


@pytest.mark.parametrize("name", ["birds/v2", "brids/v1", "birds/v1+non"])
def test_near_misses(opened: Store, name: str) -> None:
    with pytest.raises(NotFoundError, match=r"there is no|was never taken"):
        opened.version(name)


def test_everything_is_as_it_was(v1: Version, source: Path) -> None:
    found = {info.path: info for info in v1.walk()}
    expected = {os.fsdecode(os.path.relpath(os.path.join(root, name), source))
                for root, folders, files in os.walk(source) for name in folders + files}  # fmt: skip
    assert found.keys() == expected
    for path, info in found.items():
        real = source / path
        if info.kind == "symlink":
            assert info.target == os.readlink(real)
        elif info.kind == "file":
            assert v1.read(path) == real.read_bytes()
            assert info.size == real.stat().st_size
            assert info.executable == os.access(real, os.X_OK)
        else:
            assert real.is_dir()


def test_symlinks(v1: Version, source: Path) -> None:
    assert v1.read("first") == (source / "first").read_bytes()
    assert v1.read("all/up") == (source / "large.bin").read_bytes()
    assert v1.stat("all").kind == "directory"
    assert v1.stat("all", follow=False).target == "train"
    assert len(list(v1.list("all"))) == FILES + 1
    for path in ("away", "out", "loop"):
        with pytest.raises(NotFoundError, match="symlink"):
            v1.read(path)
        assert v1.stat(path, follow=False).kind == "symlink"


def test_what_cannot_be(v1: Version) -> None:
    for path in ("", "train"):
        with pytest.raises(UsageError, match="is a directory"):
            v1.open(path)
    with pytest.raises(UsageError, match="is a file"):
        list(v1.list("run.sh"))
    with pytest.raises(UsageError, match=r"'\.\.'"):
        v1.stat("train/../run.sh")
    with pytest.raises(NotFoundError, match=r"did you mean 'run\.sh'"):
        v1.stat("runs.sh")


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_a_file_reads_as_a_local_one(published: Path, source: Path, data: st.DataObject) -> None:
    with _shared(published).version("birds/v1").open("large.bin") as ours, (source / "large.bin").open("rb") as real:
        for _ in range(data.draw(st.integers(1, 5))):
            whence = data.draw(st.sampled_from([io.SEEK_SET, io.SEEK_CUR, io.SEEK_END]))
            offset = data.draw(st.integers(-6_000_000, 6_000_000))
            if {0: 0, 1: real.tell(), 2: 5_000_000}[whence] + offset >= 0:
                assert ours.seek(offset, whence) == real.seek(offset, whence)
            size = data.draw(st.integers(0, 3_000_000))
            assert ours.read(size) == real.read(size)
            assert ours.tell() == real.tell()


_STORES: dict[Path, Store] = {}


def _shared(published: Path) -> Store:
    """One for all examples: opening takes longer than reading."""
    if published not in _STORES:
        _STORES[published] = fsd.open_store(published, cache=published.with_name("cache-of-examples"))
    return _STORES[published]


def test_many_threads(v1: Version, source: Path) -> None:
    wrong = []

    def read(seed: int) -> None:
        for number in random.Random(seed).sample(range(FILES), FILES):
            path = f"train/{number:02}.txt"
            if v1.read(path) != (source / path).read_bytes():
                wrong.append(path)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def _read_all(version: Version, results: multiprocessing.SimpleQueue[bytes]) -> None:
    results.put(b"".join(version.read(info.path) for info in version.list("train") if info.kind == "file"))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes(v1: Version, source: Path, method: str) -> None:
    """As a data loader starts them: with a version that this process uses as well."""
    expected = b"".join((source / "train" / f"{number:02}.txt").read_bytes() for number in range(FILES))
    with v1.open("large.bin") as file:
        start = file.read(10)
        context = multiprocessing.get_context(method)
        results = context.SimpleQueue()
        workers = [context.Process(target=_read_all, args=(v1, results)) for _ in range(2)]
        for worker in workers:
            worker.start()
        assert [results.get(), results.get()] == [expected, expected]
        for worker in workers:
            worker.join()
            assert worker.exitcode == 0
        assert start + file.read() == (source / "large.bin").read_bytes()


def test_a_file_that_was_open_before_a_fork(v1: Version, source: Path) -> None:
    with v1.open("large.bin") as file:
        file.read(10)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            file.seek(4_000_000)
            os.write(writer, file.read(100))
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert os.read(reader, 100) == (source / "large.bin").read_bytes()[4_000_000:4_000_100]
        os.close(reader)
        os.close(writer)


def test_pickled_it_stays_what_it_was(v1: Version) -> None:
    again = pickle.loads(pickle.dumps(v1))
    assert again.name == v1.name
    assert again.read("run.sh") == v1.read("run.sh")
    again._store.close()


def test_closed(store: Store) -> None:
    version = store.version("birds/v1")
    file = version.open("run.sh")
    store.close()
    store.close()
    with pytest.raises(ValueError, match="closed"):
        version.stat("run.sh")
    with pytest.raises(ValueError, match="closed"):
        file.read()
    file.close()


def test_what_was_read_stays_in_the_cache(published: Path, home: Path, source: Path) -> None:
    with fsd.open_store(published) as store:
        store.version("birds/v1").read("large.bin")
    with fsd.open_store(published) as store:
        assert store.version("birds/v1").read("large.bin") == (source / "large.bin").read_bytes()
        assert store.call(_fetched) == 0
    assert len(list((home / ".cache" / "fsd").iterdir())) == 1


def test_what_was_published_again_is_read(home: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that was opened before gc deleted it; then the same content came back, in other packs."""
    monkeypatch.setenv("FSD_STORE", str(home / "mine"))
    for arguments in (["init"], ["commit", str(source), "birds", "-b", "one"]):
        assert main(arguments) == 0
    with fsd.open_store(home / "mine") as store:
        version = store.version("birds/one")
        with version.open("train/01.txt") as file:
            assert version.read("train/00.txt") == b"0" * 1000
            for arguments in (
                ["branch", "birds", "--delete", "one", "--force"],
                ["gc", "--grace", "0"],
                ["commit", str(source), "birds", "-b", "two"],
            ):
                assert main(arguments) == 0
            assert file.read() == b"1" * 1000
        assert version.read("train/02.txt") == b"2" * 1000
        assert version.read("large.bin") == (source / "large.bin").read_bytes()


async def _fetched(reader: object) -> int:
    return reader.cache.statistics().fetched_bytes  # type: ignore[attr-defined, no-any-return]


def test_publishing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "folder").mkdir()
    (home / "folder" / "file").write_text("one")
    monkeypatch.setenv("FSD_STORE", str(home / "store"))
    assert main(["init"]) == 0
    with fsd.open_store() as store:
        first = store.commit(home / "folder", "mine", message="First", tag="v1")
        (home / "folder" / "file").write_text("two")
        second = store.commit(home / "folder", "mine")
        assert [version.read("file") for version in (first, second)] == [b"one", b"two"]
        assert store.version("mine/v1").commit == first.commit
        (home / "folder" / "gpu.pt").write_bytes(checkpoint("cuda:0"))
        with pytest.warns(FsdWarning, match="gpu.pt holds tensors of cuda:0"):
            store.commit(home / "folder", "mine")


def test_no_store(home: Path) -> None:
    with fsd.open_store(home / "nothing") as store, pytest.raises(NotFoundError, match="there is no folder"):
        store.repositories()
    with pytest.raises(UsageError, match="no size"):
        fsd.open_store(home, cache_size="much")
