"""The index of known chunks: against a dictionary, over kills, merges and damage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fsd.format.model import Placement
from fsd.ids import content_id
from fsd.publish import known as known_module
from fsd.publish import rows as rows_module
from fsd.publish.known import KnownChunks, merge_volumes
from fsd.publish.rows import ROW_BYTES, Table, decode_row, decode_rows, encode_note, encode_row
from fsd.publish.shelf import MERGE_LOCK

PACK = bytes(range(16))
OTHER = bytes(range(16, 32))
COMMIT = content_id(b"commit")
LENGTH = 100


def chunk(number: int) -> bytes:
    return content_id(b"%d" % number)


def placement(number: int, pack: bytes = PACK) -> Placement:
    return Placement(pack, 7 * number, 50, LENGTH * number)


@contextmanager
def opened(folder: Path) -> Iterator[KnownChunks]:
    known = KnownChunks(folder)
    known.open()
    try:
        yield known
    finally:
        known.close()


def learn(folder: Path, numbers: range, pack: bytes = PACK, *, durable: bool = True, given_up: bool = False) -> None:
    with opened(folder) as known:
        known.begin_pack(pack)
        for number in numbers:
            known.add(chunk(number), LENGTH, placement(number, pack))
        if durable:
            known.note_durable(pack)
        if given_up:
            known.forget_unfinished()


def assert_knows(folder: Path, numbers: range, pack: bytes = PACK) -> None:
    with opened(folder) as known:
        for number in numbers:
            assert known.might_hold(chunk(number))
            assert known.find(chunk(number), LENGTH) == placement(number, pack)
        assert known.find(chunk(10**9), LENGTH) is None
        assert not known.is_present(pack), "nobody asked the store yet"


def files(folder: Path, suffix: str) -> list[Path]:
    return sorted(folder.glob(f"*{suffix}"))


def test_what_was_added_is_found_at_once_and_later(tmp_path: Path) -> None:
    with opened(tmp_path) as known:
        known.begin_pack(PACK)
        for number in range(5000):
            assert known.find(chunk(number), LENGTH) is None
            known.add(chunk(number), LENGTH, placement(number))
            assert known.find(chunk(number), LENGTH) == placement(number)
        assert known.is_present(PACK)
        assert known.find(chunk(1), LENGTH + 1) is None, "not the chunk, whatever its id"
        known.note_durable(PACK)
    assert_knows(tmp_path, range(5000))
    assert len(files(tmp_path, ".rows")) == len(files(tmp_path, ".table")) == 1


def test_nothing_learnt_leaves_nothing(tmp_path: Path) -> None:
    with opened(tmp_path / "made"):
        pass
    assert list((tmp_path / "made").iterdir()) == []


def test_what_a_killed_publisher_left(tmp_path: Path) -> None:
    with opened(tmp_path) as known:
        known.begin_pack(PACK)
        for number in range(3000):
            known.add(chunk(number), LENGTH, placement(number))
        known.note_durable(PACK)
        known.begin_pack(OTHER)
    assert files(tmp_path, ".table") == []
    (rows,) = files(tmp_path, ".rows")
    with open(rows, "ab") as file:
        file.write(b"half a row")
    assert_knows(tmp_path, range(3000))
    assert len(files(tmp_path, ".table")) == 1


@pytest.mark.parametrize("given_up", [True, False])
def test_chunks_of_packs_that_were_not_finished_do_not_count(tmp_path: Path, given_up: bool) -> None:
    learn(tmp_path, range(10), durable=False, given_up=given_up)
    assert len(files(tmp_path, ".table")) == given_up, "the index is put in order once nothing is under way"
    learn(tmp_path, range(10, 20), OTHER)
    with opened(tmp_path) as known:
        assert known.find(chunk(1), LENGTH) is None
        assert known.find(chunk(11), LENGTH) == placement(11, OTHER)


def test_an_attempt_that_was_given_up(tmp_path: Path) -> None:
    with opened(tmp_path) as known:
        known.begin_pack(PACK)
        known.add(chunk(1), LENGTH, placement(1))
        known.begin_pack(OTHER)
        known.add(chunk(2), LENGTH, placement(2, OTHER))
        known.note_durable(OTHER)
        known.forget_unfinished()
        assert known.find(chunk(1), LENGTH) is None
        assert known.find(chunk(2), LENGTH) == placement(2, OTHER)


def test_a_publisher_at_work_is_not_read(tmp_path: Path) -> None:
    with opened(tmp_path) as working:
        working.add(chunk(1), LENGTH, placement(1))
        working.note_durable(PACK)
        with opened(tmp_path) as known:
            assert known.find(chunk(1), LENGTH) is None
    assert_knows(tmp_path, range(1, 2))


def test_packs_that_are_gone_stay_gone(tmp_path: Path) -> None:
    learn(tmp_path, range(10))
    learn(tmp_path, range(5), OTHER)
    with opened(tmp_path) as known:
        known.mark_gone(PACK)
        assert known.find(chunk(7), LENGTH) is None
        assert known.find(chunk(3), LENGTH) == placement(3, OTHER)
    with opened(tmp_path) as known:
        assert known.find(chunk(7), LENGTH) is None
        known.begin_pack(COMMIT[:16])
        known.add(chunk(7), LENGTH, placement(7, COMMIT[:16]))
        assert known.find(chunk(7), LENGTH) == placement(7, COMMIT[:16])


def test_many_publishers_leave_few_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_module, "MERGED_VOLUMES", 4)
    packs = [content_id(b"%d" % number)[:16] for number in range(20)]
    for number, pack in enumerate(packs):
        learn(tmp_path, range(10 * number, 10 * number + 15), pack)
        with opened(tmp_path) as known:
            known.note_covered(content_id(pack))
        assert len(files(tmp_path, ".rows")) <= 6
    with opened(tmp_path) as known:
        known.mark_gone(packs[3])
    for _ in range(4):
        learn(tmp_path, range(1000, 1001))
    with opened(tmp_path) as known:
        for number in range(200):
            found = known.find(chunk(number), LENGTH)
            if 35 <= number < 40:
                assert found is None
            else:
                assert found is not None
                assert found in {placement(number, packs[number // 10]), placement(number, packs[number // 10 - 1])}
        assert all(known.covers(content_id(pack)) for pack in packs)
        assert not known.covers(COMMIT)
    names = {path.stem for path in files(tmp_path, ".rows")}
    assert {path.stem for path in files(tmp_path, ".table")} == names
    assert {path.name for path in tmp_path.iterdir() if path.suffix not in (".rows", ".table")} <= {MERGE_LOCK}


def test_the_oldest_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_module, "KEPT_ROWS", 250)
    for number in range(4):
        learn(tmp_path, range(100 * number, 100 * number + 99))
        with opened(tmp_path) as known:
            known.note_covered(chunk(number))
    merge_volumes(tmp_path)
    with opened(tmp_path) as known:
        assert known.find(chunk(0), LENGTH) is None
        assert known.find(chunk(350), LENGTH) == placement(350)
        assert not any(known.covers(chunk(number)) for number in range(4)), "its chunks may be among the forgotten"


def test_damage_hides_chunks_and_never_misplaces_one(tmp_path: Path) -> None:
    learn(tmp_path, range(20))
    (rows,), (table,) = files(tmp_path, ".rows"), files(tmp_path, ".table")
    for path in (rows, table):
        data = path.read_bytes()
        for at in range(0, len(data), 7 if path == rows else 53):
            path.write_bytes(data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :])
            with opened(tmp_path) as known:
                found = [known.find(chunk(number), LENGTH) for number in range(20)]
            assert all(each in (None, placement(number)) for number, each in enumerate(found)), (path, at)
            assert found.count(None) <= (1 if path == rows else 20)
            table.write_bytes(data if path == table else table.read_bytes())
        for size in (0, 1, 100, len(data) // 2):
            path.write_bytes(data[:size])
            with opened(tmp_path) as known:
                for number in range(20):
                    assert known.find(chunk(number), LENGTH) in (None, placement(number))
        path.write_bytes(data)
    assert_knows(tmp_path, range(20))


def test_a_table_finds_what_collides(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table()
    same = [b"\1\2\3\4" + bytes([number]) * 28 for number in range(100)]
    for number, each in enumerate(same):
        table.add(each, number)
    assert sorted(table.candidates(same[0])) == list(range(100))
    monkeypatch.setattr(rows_module, "_FULL", 0.9)
    for number in range(5000):
        table.add(chunk(number), 100 + number)
    for number in range(5000):
        assert 100 + number in table.candidates(chunk(number))
    assert sorted(table.candidates(same[0])) == list(range(100))
    assert len(table.slots) & (len(table.slots) - 1) == 0


def test_rows_there_and_back() -> None:
    rows = [encode_row(chunk(n), n, 2**40 + n, n + 1, n + 2, n + 3) for n in range(5)] + [encode_note(1, PACK, 3)]
    assert {len(row) for row in rows} == {ROW_BYTES}
    decoded = list(decode_rows(b"".join(rows) + b"half"))
    assert decoded == [decode_row(row) for row in rows]
    assert decoded[2] == (chunk(2), 2, 2**40 + 2, 3, 4, 5)
    assert [row is not None and row.is_note for row in decoded] == [False] * 5 + [True]
    for at in range(ROW_BYTES):
        assert decode_row(rows[0][:at] + bytes([rows[0][at] ^ 1]) + rows[0][at + 1 :]) is None
    assert decode_row(bytes(ROW_BYTES)) is None, "what a power cut leaves is no row"
