"""The packed table against a dictionary, with numbers so scarce that keys meet in them all the time."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fsd.ids import content_id
from fsd.vfs.inodes import (
    DIRECTORY,
    EXECUTABLE,
    FILE,
    FIRST_TREE_INO,
    FLAVOUR_BITS,
    SYMLINK,
    InodeTable,
    Numbering,
    Seen,
)

FEW_NUMBERS = 0b111100
"""Sixteen numbers a flavour."""

KEYS = [content_id(b"%d" % number) for number in range(12)]
PAGES = [content_id(b"page %d" % number) for number in range(4)]
TREES = ["v1", "v2", "v3"]


class TableAgainstDictionary(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.table = InodeTable(number_mask=FEW_NUMBERS)
        self.live: dict[int, tuple[bytes, int, int, str | int, int, bytes, int]] = {}
        """Number -> key, flavour, lookups, value, value number, page, position."""

    def number_of(self, key: bytes, flavour: int) -> int | None:
        return next((ino for ino, row in self.live.items() if row[:2] == (key, flavour)), None)

    @rule(
        key=st.sampled_from(KEYS),
        flavour=st.sampled_from([FILE, EXECUTABLE, SYMLINK, DIRECTORY]),
        page=st.sampled_from(PAGES),
        position=st.integers(0, 0xFFFF),
        tree=st.sampled_from(TREES),
    )
    def remember(self, key: bytes, flavour: int, page: bytes, position: int, tree: str) -> None:
        known = self.number_of(key, flavour)
        # A directory's key says which tree it is in, so the tree of a key never changes.
        before = self.live[known] if known is not None else None
        value: str | int = (before[3] if before else tree) if flavour == DIRECTORY else key[0] << 40
        page_number = self.table.pages.hold(page)
        value_number = self.table.trees.hold(value) if isinstance(value, str) else value
        ino = self.table.remember(key, flavour, value_number, page_number, position)
        self.table.pages.drop(page_number)
        if isinstance(value, str):
            self.table.trees.drop(value_number)
        assert ino >= FIRST_TREE_INO
        assert ino & FLAVOUR_BITS == flavour
        assert known in (None, ino)
        if before is None:
            assert ino not in self.live
        self.live[ino] = (key, flavour, (before[2] if before else 0) + 1, value, value_number, page, position)

    @rule(data=st.data(), count=st.integers(1, 3))
    def forget(self, data: st.DataObject, count: int) -> None:
        if not self.live:
            self.table.forget(FIRST_TREE_INO, count)
            return
        ino = data.draw(st.sampled_from(sorted(self.live)))
        row = self.live.pop(ino)
        self.table.forget(ino, count)
        if row[2] > count:
            self.live[ino] = (*row[:2], row[2] - count, *row[3:])

    @invariant()
    def is_the_same(self) -> None:
        assert len(self.table) == len(self.live)
        for ino, (key, _, lookups, value, value_number, page, position) in self.live.items():
            assert self.table.content(ino) == (key, value_number)
            assert self.table.value(ino) == value_number
            assert self.table.lookups(ino) == lookups
            seen = self.table.seen(ino)
            assert seen is not None
            assert (self.table.pages[seen.page], seen.position) == (page, position)
            if isinstance(value, str):
                assert self.table.trees[value_number] == value

    @invariant()
    def holds_no_more_than_it_needs(self) -> None:
        assert len(self.table.pages) == len({row[5] for row in self.live.values()})
        assert len(self.table.trees) == len({row[3] for row in self.live.values() if row[1] == DIRECTORY})


TestTableAgainstDictionary = TableAgainstDictionary.TestCase
TestTableAgainstDictionary.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


def fill(table: InodeTable, count: int) -> list[int]:
    page = table.pages.hold(PAGES[0])
    return [table.remember(content_id(b"%d" % number), FILE, number, page, 0) for number in range(count)]


def test_numbers_come_from_the_hash_alone() -> None:
    first, second = InodeTable(), InodeTable()
    numbers = fill(first, 10)
    assert fill(second, 10) == numbers
    assert all(FIRST_TREE_INO <= number < 2 * FIRST_TREE_INO for number in numbers)


def test_a_page_that_lies_about_a_size_shares_no_inode() -> None:
    table = InodeTable()
    page = table.pages.hold(PAGES[0])
    liar = table.remember(KEYS[0], FILE, 10, page, 0)
    honest = table.remember(KEYS[0], FILE, 20, page, 1)
    assert liar != honest
    assert (table.value(liar), table.value(honest)) == (10, 20)
    assert table.remember(KEYS[0], FILE, 20, page, 1) == honest
    table.forget(liar, 1)
    assert table.remember(KEYS[0], FILE, 20, page, 1) == honest
    table.forget(honest, 3)
    assert table.remember(KEYS[0], FILE, 20, page, 1) == liar


def test_plain_and_executable_twins_are_two_nodes() -> None:
    table = InodeTable()
    page = table.pages.hold(PAGES[0])
    plain = table.remember(KEYS[0], FILE, 7, page, 0)
    executable = table.remember(KEYS[0], EXECUTABLE, 7, page, 1)
    assert plain != executable
    assert table.content(plain) == table.content(executable) == (KEYS[0], 7)


def test_it_grows_and_gives_memory_back() -> None:
    table = InodeTable()
    numbers = fill(table, 20_000)
    assert len(set(numbers)) == len(table) == 20_000
    full = table.memory_bytes
    assert [table.value(ino) for ino in numbers] == list(range(20_000))
    for ino in numbers[::2]:
        table.forget(ino, 1)
    assert [table.value(ino) for ino in numbers[:4]] == [None, 1, None, 3]
    for ino in numbers[1::2]:
        table.forget(ino, 1)
    assert len(table) == 0
    assert table.memory_bytes < full / 20


def test_a_row_takes_little_memory() -> None:
    table = InodeTable()
    fill(table, 50_000)
    assert table.memory_bytes < 50_000 * 75


def test_the_last_place_seen_is_remembered() -> None:
    table = InodeTable()
    old, new = table.pages.hold(PAGES[0]), table.pages.hold(PAGES[1])
    ino = table.remember(KEYS[0], FILE, 7, old, 5)
    table.pages.drop(old)
    assert table.remember(KEYS[0], FILE, 7, new, 6) == ino
    assert table.seen(ino) == Seen(new, 6)
    assert len(table.pages) == 1


def test_numbering_gives_numbers_again_only_when_nobody_holds_them() -> None:
    numbering: Numbering[str] = Numbering()
    a = numbering.hold("a")
    assert numbering.hold("a") == a
    b = numbering.hold("b")
    numbering.drop(a)
    assert numbering[a] == "a"
    numbering.drop(a)
    with pytest.raises(KeyError):
        numbering[a]
    assert numbering.hold("c") == a
    assert (numbering[a], numbering[b]) == ("c", "b")


def test_when_every_number_is_taken_it_says_so() -> None:
    table = InodeTable(number_mask=0b100)
    page = table.pages.hold(PAGES[0])
    for key in KEYS[:2]:
        table.remember(key, FILE, 1, page, 0)
    with pytest.raises(OverflowError):
        table.remember(KEYS[2], FILE, 1, page, 0)
