"""`fsd://` through fsspec: its own tests of reading, and programs that read through it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.tests.abstract import AbstractFixtures, AbstractGetTests

import fsd
from fsd.client.filesystem import FsdFileSystem
from fsd_cli.main import main
from tests.client.conftest import FILES


@pytest.fixture
def files(published: Path, home: Path) -> FsdFileSystem:  # noqa: ARG001 - a cache of one's own
    return fsspec.filesystem("fsd", store=str(published), skip_instance_cache=True)


class TestGet(AbstractGetTests, AbstractFixtures):  # type: ignore[misc]
    """fsspec's own suite, as far as it only reads. What it writes through the file system itself is committed here."""

    @pytest.fixture
    def made(self, home: Path) -> Callable[[Callable[..., str]], str]:
        def make(scenario: Callable[..., str]) -> str:
            (home / "folder").mkdir()
            scenario(LocalFileSystem(auto_mkdir=True), os.path.join, str(home / "folder"))
            assert main(["--store", str(home / "store"), "init"]) == 0
            with fsd.open_store(home / "store") as store:
                store.commit(home / "folder", "data", tag="v1")
            return "data/v1/source"

        return make

    @pytest.fixture
    def fs(self, home: Path) -> FsdFileSystem:
        return fsspec.filesystem("fsd", store=str(home / "store"), skip_instance_cache=True)

    @pytest.fixture
    def fs_path(self) -> str:
        return "data/v1"

    @pytest.fixture
    def fs_bulk_operations_scenario_0(self, made: Any) -> str:
        return str(made(self._bulk_operations_scenario_0))

    @pytest.fixture
    def fs_glob_edge_cases_files(self, made: Any) -> str:
        return str(made(self._glob_edge_cases_files))

    @pytest.fixture
    def fs_dir_and_file_with_same_name_prefix(self, made: Any) -> str:
        return str(made(self._dir_and_file_with_same_name_prefix))

    def test_get_directory_recursive(self, fs: Any, made: Any, home: Path) -> None:  # type: ignore[override]
        """The one test that writes by itself: the same with a folder that was committed."""

        def one_file(local: Any, join: Callable[..., str], top: str) -> None:
            local.touch(join(top, "source", "file"))

        source, target = made(one_file), home / "target"
        for _ in range(2):  # into a folder that is not there, then into one that is
            fs.get(source, str(target), recursive=True)
            assert (target / "file").is_file()
        assert (target / "source" / "file").is_file()
        fs.get(f"{source}/", str(home / "other"), recursive=True)
        fs.get(f"{source}/", str(home / "other"), recursive=True)
        assert sorted(path.name for path in (home / "other").rglob("*")) == ["file"]

    @pytest.fixture
    def fs_10_files_with_hashed_names(self, made: Any) -> str:
        return str(made(self._10_files_with_hashed_names))


def test_the_tree_is_the_mounts(files: FsdFileSystem) -> None:
    assert files.ls("", detail=False) == ["birds"]
    assert files.ls("fsd://birds", detail=False) == ["birds/main", "birds/v1"]
    assert files.isdir("birds/v1+few/train")
    assert files.ls("birds/v1+few/train", detail=False) == [
        f"birds/v1+few/train/{number:02}.txt" for number in range(10)
    ]
    assert len(files.find("birds/v1/train")) == FILES + 1
    assert files.glob("fsd://birds/*/train/00.txt") == ["birds/main/train/00.txt", "birds/v1/train/00.txt"]
    assert files.exists("birds/main/new")
    assert not files.exists("birds/v1/new")
    assert not files.exists("birds/v3/new")
    assert not files.exists("others")


def test_what_is_known_of_a_path(files: FsdFileSystem, source: Path) -> None:
    info = files.info("fsd://birds/v1/run.sh")
    assert (info["name"], info["type"], info["size"], info["executable"]) == ("birds/v1/run.sh", "file", 10, True)
    assert files.ukey("birds/v1/run.sh") == files.ukey("birds/main/run.sh") == info["blake3"]
    assert files.info("birds/v1/all")["type"] == "directory"
    assert files.info("birds/v1/first")["size"] == (source / "train/00.txt").stat().st_size
    away = next(each for each in files.ls("birds/v1") if each["name"] == "birds/v1/away")
    assert (away["type"], away["destination"]) == ("link", "/etc/passwd")


def test_bytes(files: FsdFileSystem, source: Path) -> None:
    data = (source / "large.bin").read_bytes()
    path = "birds/v1/large.bin"
    assert files.cat(path) == data
    for start, end in [(0, 10), (100, None), (None, 100), (-10, None), (4_999_990, 6_000_000), (10, 5)]:
        assert files.cat_file(path, start, end) == data[start:end]
    assert files.cat_ranges([path] * 2, [0, 1000], [10, 1010]) == [data[:10], data[1000:1010]]
    assert files.head(path, 5) == data[:5]
    assert files.tail(path, 5) == data[-5:]
    with fsspec.open(f"fsd://{path}", "rb", store=files.storage_options["store"]) as file:
        file.seek(1_000_000)
        assert file.read(10) == data[1_000_000:1_000_010]
    with files.open("birds/v1/run.sh", "r") as text:
        assert text.read() == "#!/bin/sh\n"


def test_a_branch_stays_where_it_was(home: Path) -> None:
    own = fsspec.filesystem("fsd", store=str(home / "store"), skip_instance_cache=True)
    assert main(["--store", str(home / "store"), "init"]) == 0
    with fsd.open_store(home / "store") as store:
        (home / "folder").mkdir()
        (home / "folder" / "file").write_text("one")
        store.commit(home / "folder", "data")
        assert own.cat("data/main/file") == b"one"
        (home / "folder" / "file").write_text("two")
        store.commit(home / "folder", "data")
    assert own.cat("data/main/file") == b"one"
    own.invalidate_cache()
    assert own.cat("data/main/file") == b"two"


WRITES: dict[str, Callable[[Any], object]] = {
    "open": lambda files: files.open("birds/v1/x", "wb"),
    "mkdir": lambda files: files.mkdir("birds/v1/x"),
    "rm": lambda files: files.rm("birds/v1/run.sh"),
    "pipe": lambda files: files.pipe("birds/v1/x", b""),
    "cp": lambda files: files.cp("birds/v1/run.sh", "birds/v1/x"),
    "touch": lambda files: files.touch("birds/v1/x"),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_nothing_is_written(files: FsdFileSystem, write: Callable[[Any], object]) -> None:
    with pytest.raises(OSError, match="read-only") as caught:
        write(files)
    assert caught.value.errno == errno.EROFS


def test_errors(files: FsdFileSystem) -> None:
    for path in ("birds/v1/nothing", "birds/v9/x", "brids/v1/x"):
        with pytest.raises(FileNotFoundError, match=r"no nothing|did you mean"):
            files.cat(path)
        with pytest.raises(FileNotFoundError):
            files.info(path)
    with pytest.raises(IsADirectoryError):
        files.open("birds/v1/train")
    with pytest.raises(IsADirectoryError):
        files.open("birds")


@pytest.fixture
def tables(home: Path) -> str:
    """A store with a CSV and a Parquet file of 100,000 rows."""
    pyarrow = pytest.importorskip("pyarrow")
    csv, parquet = pytest.importorskip("pyarrow.csv"), pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"number": range(100_000), "square": [n * n for n in range(100_000)]})
    (home / "folder").mkdir()
    csv.write_csv(table, home / "folder" / "table.csv")
    parquet.write_table(table, home / "folder" / "table.parquet", row_group_size=10_000)
    assert main(["--store", str(home / "store"), "init"]) == 0
    with fsd.open_store(home / "store") as store:
        store.commit(home / "folder", "tables", tag="v1")
    return str(home / "store")


def test_pyarrow_reads_through_it(tables: str) -> None:
    dataset = pytest.importorskip("pyarrow.dataset")
    files = fsspec.filesystem("fsd", store=tables, skip_instance_cache=True)
    found = dataset.dataset("tables/v1/table.parquet", filesystem=files).to_table(
        filter=dataset.field("number") > 99_990
    )
    assert found["square"].to_pylist() == [n * n for n in range(99_991, 100_000)]


def test_duckdb_reads_through_it(tables: str) -> None:
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect() as connection:
        connection.register_filesystem(fsspec.filesystem("fsd", store=tables, skip_instance_cache=True))
        found = connection.sql("SELECT sum(square) FROM read_csv('fsd://tables/v1/table.csv')").fetchall()
    assert found == [(sum(n * n for n in range(100_000)),)]
