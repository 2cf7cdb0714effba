"""The order that `fsd.shuffled` makes: complete, the same again, mixed well, and kind to packs."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fsd
from fsd.format.model import entry_key
from fsd.limits import MIB
from fsd.shuffle import FENCED_FILES, MIN_RUN_BYTES, OWN_RUN_BYTES, RUN_BYTES, cut_runs, list_files, shuffle

some_sizes = st.lists(st.one_of(st.integers(0, 100_000), st.integers(0, 2 * OWN_RUN_BYTES)), max_size=60)
buffers = st.one_of(st.none(), st.integers(0, 1 << 40), st.integers(0, 100 * MIB))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(40):
        path = tmp_path / "data" / f"class{number % 4}" / f"{number:02}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{number}" * number)
    return tmp_path / "data"


# --- complete, and the same again


@given(some_sizes, st.integers(), buffers, st.integers(1, 5))
def test_ranks_have_every_file_once_and_as_many_each(
    sizes: list[int], seed: int, buffer_bytes: int | None, world: int
) -> None:
    shares = [shuffle(sizes, seed, buffer_bytes=buffer_bytes, rank=rank, world=world) for rank in range(world)]
    assert sorted(number for share in shares for number in share) == list(range(len(sizes)))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(some_sizes, st.text(), buffers)
@settings(max_examples=20)
def test_the_order_follows_from_sizes_and_seed(sizes: list[int], seed: str, buffer_bytes: int | None) -> None:
    assert shuffle(sizes, seed, buffer_bytes=buffer_bytes) == shuffle(sizes, seed, buffer_bytes=buffer_bytes)


def test_the_order_is_the_same_in_every_version_of_fsd() -> None:
    # A training run that is repeated next year shall see the same batches.
    assert shuffle(range(12), 7).tolist() == [7, 5, 9, 2, 10, 0, 4, 11, 8, 6, 3, 1]
    assert shuffle([3 * MIB] * 12, "epoch-1", buffer_bytes=20 * MIB).tolist() == [10, 0, 2, 3, 11, 4, 6, 1, 8, 7, 5, 9]


def test_another_seed_gives_another_order() -> None:
    orders = {tuple(shuffle([1000] * 100, seed)) for seed in (0, 1, 2, "0", "1")}
    assert len(orders) == 5


def test_names_do_not_depend_on_where_the_folder_is(folder: Path) -> None:
    moved = folder.rename(folder.with_name("moved"))
    before = [path.replace("/moved/", "/data/") for path in fsd.shuffled(str(moved), 1)]
    moved.rename(folder)
    assert list(fsd.shuffled(str(folder), 1)) == before


# --- mixed well: as an ordinary shuffle is, but for the window


def labels_in_batches(order: Sequence[int], label: Callable[[int], int], batch: int) -> float:
    """The mean number of different labels in a batch."""
    batches = [order[start : start + batch] for start in range(0, len(order) - batch + 1, batch)]
    return sum(len({label(number) for number in each}) for each in batches) / len(batches)


SIZES = [random.Random(1).randrange(20_000, 180_000) for _ in range(40_000)]
"""4 GB, of which each label has 200 files in a row, as the folders of an image classifier do: 200 labels of 20 MB."""


def label_of(number: int) -> int:
    return number // 200


@pytest.mark.parametrize(("window_mib", "share"), [(4000, 0.99), (1000, 0.55), (400, 0.25)])
def test_a_batch_has_many_labels(window_mib: int, share: float) -> None:
    plain = labels_in_batches(random.Random(1).sample(range(len(SIZES)), len(SIZES)), label_of, 256)
    mixed = labels_in_batches(shuffle(SIZES, 1, buffer_bytes=window_mib * MIB), label_of, 256)
    assert mixed >= share * plain


def test_everywhere_a_batch_comes_from_many_runs() -> None:
    window = 800 * MIB
    runs = {number: at for at, run in enumerate(cut_runs(SIZES, RUN_BYTES)) for number in run}
    order = shuffle(SIZES, 1, buffer_bytes=window)
    for start in range(0, len(order) - 255, 64):
        counts = Counter(runs[number] for number in order[start : start + 256])
        assert len(counts) >= window // RUN_BYTES // 2
        assert max(counts.values()) < 256 / 3


def test_the_order_of_the_tree_is_gone() -> None:
    order = shuffle(SIZES, 1, buffer_bytes=800 * MIB)
    rises = sum(a < b for a, b in pairwise(order))
    assert abs(rises / len(order) - 0.5) < 0.02
    middle = (len(order) - 1) / 2
    spread = sum((at - middle) ** 2 for at in range(len(order)))
    correlation = sum((at - middle) * (number - middle) for at, number in enumerate(order)) / spread
    assert abs(correlation) < 0.3


# --- kind to packs


def test_a_run_is_read_within_a_window() -> None:
    window = 800 * MIB
    order = shuffle(SIZES, 1, buffer_bytes=window)
    read_before = {}
    read = 0
    for number in order:
        read_before[number] = read
        read += SIZES[number]
    for run in cut_runs(SIZES, RUN_BYTES):
        at = [read_before[number] for number in run]
        # By chance other runs may have come a little early or late.
        assert max(at) - min(at) <= 1.2 * window


def test_a_run_begins_with_its_ends() -> None:
    order = shuffle(SIZES, 1, buffer_bytes=800 * MIB)
    place = {number: at for at, number in enumerate(order)}
    for run in cut_runs(SIZES, RUN_BYTES):
        assert len(run) >= FENCED_FILES
        first, second, *_ = sorted(run, key=place.__getitem__)
        assert [first, second] == [run[0], run[-1]]


@given(some_sizes, st.sampled_from([MIN_RUN_BYTES, RUN_BYTES]))
def test_runs_are_in_the_order_of_the_tree(sizes: list[int], run_bytes: int) -> None:
    runs = cut_runs(sizes, run_bytes)
    assert sorted(number for run in runs for number in run) == list(range(len(sizes)))
    for run in runs:
        assert list(run) == sorted(run)
        assert len(run) == 1 or sum(sizes[number] for number in run) <= run_bytes
    small = [number for run in runs for number in run if sizes[number] < OWN_RUN_BYTES]
    assert small == sorted(small)


# --- paths


def test_paths_are_of_the_type_that_was_given(folder: Path) -> None:
    texts = fsd.shuffled(str(folder), 1)
    paths = fsd.shuffled(folder, 1)
    assert sorted(texts) == sorted(str(path) for path in folder.rglob("*.txt"))
    assert [str(path) for path in paths] == list(texts)
    assert isinstance(paths[0], Path)
    assert len(texts) == 40
    assert "40 files" in repr(texts)


def test_paths_are_absolute_and_lead_through_no_symlink(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to("data")
    monkeypatch.chdir(tmp_path)
    order = fsd.shuffled("link/class1", 1)
    assert order.root == str(folder / "class1")
    (tmp_path / "link").unlink()
    assert all(os.path.isabs(path) and os.path.exists(path) for path in order)


def test_workers_take_turns_with_slices(folder: Path) -> None:
    order = fsd.shuffled(folder, 1)
    shares = [order[worker::3] for worker in range(3)]
    assert sorted(path for share in shares for path in share) == sorted(order)
    assert [order[-1], order[0]] == [list(order)[-1], next(iter(order))]


def test_files_come_in_the_order_of_a_tree(tmp_path: Path) -> None:
    for name in ("b", "a/x", "a/b/y", "a-c/z", "a.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "link").symlink_to("b")
    (tmp_path / "elsewhere").symlink_to("a")
    (tmp_path / "dangling").symlink_to("nothing")
    files = list_files(str(tmp_path))
    paths = [files.path(number) for number in range(len(files.sizes))]
    assert paths == sorted(paths, key=lambda path: entry_key(*path.rpartition(b"/")[::2]))
    assert paths == [b"a.txt", b"b", b"link", b"a/x", b"a/b/y", b"a-c/z"]
    assert files.sizes.tolist() == [5, 1, 1, 3, 5, 5]


def test_names_that_are_not_text(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff")).write_text("1")
    assert [os.fsencode(path) for path in fsd.shuffled(str(tmp_path), 1)] == [os.fsencode(tmp_path) + b"/\xff"]


def test_an_empty_folder_has_no_files(tmp_path: Path) -> None:
    assert list(fsd.shuffled(tmp_path, 1)) == []


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        fsd.shuffled(tmp_path / "nothing", 1)


@pytest.mark.parametrize("arguments", [{"rank": 1}, {"rank": -1}, {"rank": 2, "world": 2}, {"buffer_bytes": -1}])
def test_what_cannot_be(tmp_path: Path, arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"rank|buffer"):
        fsd.shuffled(tmp_path, 1, **arguments)


def test_everything_public_is_there_when_it_is_asked_for() -> None:
    code = "from fsd import *; print(BUFFER_BYTES, Shuffled.__name__, open_store.__name__, shuffled.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{8 << 30} Shuffled open_store shuffled\n"


# --- documentation


def test_the_sampler_of_the_documentation(folder: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "training.md").read_text()
    code = next(block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "class PackSampler" in block)
    names: dict[str, Any] = {}
    exec(code, names)
    paths = sorted(map(str, folder.rglob("*.txt")))
    sampler = names["PackSampler"](str(folder), paths[:-1])
    epochs = [list(sampler), list(sampler)]
    assert epochs[0] != epochs[1]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(len(sampler)))
    assert [paths[index] for index in epochs[0]] == [path for path in fsd.shuffled(str(folder), 0) if path != paths[-1]]
