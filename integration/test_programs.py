"""Programs that people use on data, reading it through a mount."""

from __future__ import annotations

import filecmp
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from integration.program import Program

ROWS = 50_000


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with something for every program."""
    folder = tmp_path_factory.mktemp("source") / "data"
    rng = np.random.default_rng(1)
    for number in range(200):
        parent = folder / "images" / f"class{number % 7}"
        parent.mkdir(parents=True, exist_ok=True)
        (parent / f"image {number:03}.bin").write_bytes(rng.bytes(int(rng.integers(0, 200_000))))
    (folder / "notes").mkdir()
    for number in range(20):
        (folder / "notes" / f"{number}.txt").write_text(f"line one\nneedle {number}\n" * 100)
    np.save(folder / "array.npy", rng.standard_normal((1000, 3000)))
    table = pa.table(
        {"id": np.arange(ROWS), "value": rng.standard_normal(ROWS), "name": [f"n{i % 97}" for i in range(ROWS)]}
    )
    pq.write_table(table, folder / "table.parquet", row_group_size=5000)
    database = sqlite3.connect(folder / "data.sqlite")
    with database:
        database.execute("create table points (id integer primary key, value real)")
        database.executemany("insert into points values (?, ?)", ((i, i * 0.5) for i in range(ROWS)))
    database.close()
    tensors = {f"layer{number}": rng.standard_normal((256, 1024)).astype(np.float32) for number in range(24)}
    save_file(tensors, folder / "model.safetensors")
    (folder / "tool.sh").write_text("#!/bin/sh\necho ran $1\n")
    (folder / "tool.sh").chmod(0o755)
    (folder / "latest").symlink_to("notes/19.txt")
    return folder


@pytest.fixture(scope="module")
def version(module_program: Program, source: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The dataset's directory in a mount."""
    module_program("init", module_program.store)
    module_program("commit", source, "data", "--tag", "v1")
    mount = module_program.mount(tmp_path_factory.mktemp("mount") / "m")
    yield mount / "data" / "v1"
    module_program("umount", mount)


def output(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{command} gave {done.returncode}: {done.stderr}"
    return done.stdout


def assert_same(first: Path, second: Path) -> None:
    """The same names, kinds, modes of execution and bytes below both."""
    compared = filecmp.dircmp(first, second, ignore=[])
    pending = [compared]
    while pending:
        level = pending.pop()
        assert not level.left_only
        assert not level.right_only
        assert not level.funny_files
        _, differing, errors = filecmp.cmpfiles(level.left, level.right, level.common_files, shallow=False)
        assert not differing
        assert not errors
        for name in level.common_files:
            left, right = (os.path.join(side, name) for side in (level.left, level.right))
            assert os.access(left, os.X_OK) == os.access(right, os.X_OK), name
        pending.extend(level.subdirs.values())


def test_find_lists_the_same_paths(source: Path, version: Path) -> None:
    here = sorted(output("find", "-L", ".", "-printf", "%y %p %s\n", cwd=source).splitlines())
    there = sorted(output("find", "-L", ".", "-printf", "%y %p %s\n", cwd=version).splitlines())
    files = [[line for line in lines if not line.startswith("d ")] for lines in (here, there)]
    assert files[0] == files[1]
    assert len(files[0]) > 200
    directories = [[line.split(" ")[1] for line in lines if line.startswith("d ")] for lines in (here, there)]
    assert directories[0] == directories[1]


def test_tar_carries_everything_over(version: Path, source: Path, tmp_path: Path) -> None:
    output("tar", "-cf", tmp_path / "all.tar", "-C", version, ".")
    (tmp_path / "out").mkdir()
    output("tar", "-xf", tmp_path / "all.tar", "-C", tmp_path / "out")
    assert_same(source, tmp_path / "out")
    assert " link to " not in output("tar", "-tvf", tmp_path / "all.tar")


@pytest.mark.parametrize("command", [("cp", "-r"), ("cp", "-a"), ("rsync", "-aH"), ("rsync", "-aHc")], ids=" ".join)
def test_copies_are_the_same(version: Path, source: Path, tmp_path: Path, command: Sequence[str]) -> None:
    output(*command, f"{version}/.", tmp_path / "copy")
    assert_same(source, tmp_path / "copy")


def test_grep_finds_the_same_lines(version: Path, source: Path) -> None:
    there, here = (sorted(output("grep", "-r", "needle", ".", cwd=root).splitlines()) for root in (version, source))
    assert there == here
    assert len(here) == 2000


def test_programs_run_from_the_mount(version: Path) -> None:
    assert output(version / "tool.sh", "well") == "ran well\n"


def test_git_sees_a_link_and_nothing_else(version: Path, tmp_path: Path) -> None:
    output("git", "init", "-q", tmp_path)
    (tmp_path / "data").symlink_to(version)
    output("git", "add", "data", cwd=tmp_path)
    output("git", "-c", "user.name=n", "-c", "user.email=e@x", "commit", "-qm", "pin", cwd=tmp_path)
    assert output("git", "status", "--porcelain", cwd=tmp_path) == ""
    assert output("git", "ls-files", "-s", cwd=tmp_path).startswith("120000 ")


def test_numpy_maps_an_array(version: Path, source: Path) -> None:
    mapped = np.load(version / "array.npy", mmap_mode="r")
    there = np.load(source / "array.npy")
    assert np.array_equal(mapped[::37], there[::37])
    assert np.array_equal(mapped, there)


def test_sqlite_opens_an_immutable_database(version: Path) -> None:
    database = sqlite3.connect(f"file:{version / 'data.sqlite'}?immutable=1&mode=ro", uri=True)
    assert database.execute("select count(*), sum(value) from points").fetchone() == (
        ROWS,
        sum(i * 0.5 for i in range(ROWS)),
    )
    assert database.execute("pragma integrity_check").fetchone() == ("ok",)
    database.close()


def test_parquet_through_pyarrow_and_duckdb(version: Path, source: Path) -> None:
    path = version / "table.parquet"
    assert pq.read_table(path, columns=["id", "name"]).equals(
        pq.read_table(source / "table.parquet", columns=["id", "name"])
    )
    assert pq.ParquetFile(path).read_row_group(7).num_rows == 5000
    with duckdb.connect() as connection:
        row = connection.execute("select count(*), count(distinct name) from read_parquet(?)", [str(path)]).fetchone()
    assert row == (ROWS, 97)


def test_safetensors_with_many_threads_faulting_pages_at_once(
    version: Path, source: Path, module_program: Program
) -> None:
    module_program("umount", version.parents[1])
    module_program.mount(version.parents[1])
    wrong: list[str] = []

    def read(seed: int) -> None:
        with (
            safe_open(version / "model.safetensors", "np") as there,
            safe_open(source / "model.safetensors", "np") as here,
        ):
            names = list(here.keys())
            random.Random(seed).shuffle(names)
            wrong.extend(name for name in names if not np.array_equal(there.get_tensor(name), here.get_tensor(name)))

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert wrong == []


def test_torch_loads_with_four_workers(version: Path, source: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed here")
    program = Path(__file__).with_name("torch_loader.py")
    arguments = (sys.executable, program)
    assert output(*arguments, version / "images") == output(*arguments, source / "images")


def test_an_executable_and_a_plain_twin_keep_their_modes(module_program: Program, tmp_path: Path) -> None:
    twins = tmp_path / "twins"
    twins.mkdir()
    for name, mode in (("plain", 0o644), ("tool", 0o755), ("other", 0o644)):
        (twins / name).write_bytes(b"#!/bin/sh\n")
        (twins / name).chmod(mode)
    for name in ("empty", "void"):
        (twins / name).touch()
    module_program("commit", twins, "twins", "--tag", "v1")
    mount = module_program.mount(tmp_path / "m", "--cache-dir", str(tmp_path / "cache"))
    there = mount / "twins" / "v1"
    assert [os.access(there / name, os.X_OK) for name in ("plain", "tool", "other")] == [False, True, False]
    assert (there / "plain").stat().st_ino == (there / "other").stat().st_ino != (there / "tool").stat().st_ino
    shutil.copytree(there, tmp_path / "copy", symlinks=True)
    (tmp_path / "copy" / "empty").chmod(0o644)
    (tmp_path / "copy" / "empty").write_text("changed")
    assert (tmp_path / "copy" / "void").read_bytes() == b""
    assert_same(twins, there)
    module_program("umount", mount)
