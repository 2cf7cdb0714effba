"""The delta against the plain comparison of two dictionaries, and the rule for what is young."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsd.format.model import entry_key
from fsd.publish import delta as delta_module
from fsd.publish.delta import COARSE_TICK_NS, FINE_TICK_NS, Delta, is_young
from fsd.publish.scan import UNTRUSTED, ScanKey, ScanWriter, open_scan_index
from fsd.publish.source import STATUS, Found
from fsd.publish.walk import Run
from fsd.repo.builder import Removal

KEY = ScanKey(b"/folder", "store", "repo")
COMMIT = bytes(range(32))
NOW_NS = 10**18 + 123_456_789
OLD_NS = NOW_NS - 10**12

Status = tuple[int, int, int, int, int]
Entries = dict[tuple[bytes, bytes], Status]
"""By directory and name."""

FILE_MODE, DIRECTORY_MODE = 0o100644, 0o040755

ENTRIES = st.dictionaries(
    st.tuples(st.sampled_from([b"", b"d", b"d/e", b"d-", b"f"]), st.sampled_from([b"a", b"b", b"c", b"dd", b"e"])),
    st.tuples(st.integers(0, 2), st.just(OLD_NS), st.sampled_from([OLD_NS, NOW_NS]), st.just(1), st.just(FILE_MODE)),
    max_size=15,
)


def runs_of(entries: Entries, run_entries: int) -> Iterator[Run]:
    """As the walk would give them."""
    run: list[tuple[bytes, bytes]] = []
    for entry in [*sorted(entries, key=lambda entry: entry_key(*entry)), None]:
        if run and (entry is None or entry[0] != run[0][0] or len(run) == run_entries):
            statuses = b"".join(STATUS.pack(*entries[each]) for each in run)
            yield Run(run[0][0], [name for _, name in run], statuses, NOW_NS)
            run = []
        if entry is not None:
            run.append(entry)


def scan(folder: Path, entries: Entries, run_entries: int, commit: bytes = COMMIT) -> list[Found | Removal]:
    """Compare with the last scan, and leave an index for the next; the changes."""
    index = open_scan_index(folder, KEY)
    writer = ScanWriter(folder, KEY, index)
    recorded = index.runs() if index else iter(())
    batches = list(Delta(runs_of(entries, run_entries), recorded, writer).batches())
    writer.finish(commit)
    if index is not None:
        index.close()
    assert sum(batch.unread_entries for batch in batches) == len(entries) - sum(
        isinstance(change, Found) for batch in batches for change in batch.changes
    )
    return [change for batch in batches for change in batch.changes]


@given(states=st.lists(ENTRIES, min_size=1, max_size=4), sizes=st.lists(st.integers(1, 6), min_size=4, max_size=4))
def test_the_delta_is_the_difference(states: list[Entries], sizes: list[int]) -> None:
    with tempfile.TemporaryDirectory() as place:
        previous: Entries = {}
        for number, (entries, run_entries) in enumerate(zip(states, sizes, strict=False)):
            changes = scan(Path(place), entries, run_entries, bytes([number]) * 32)
            keys = [entry_key(change.directory, change.name) for change in changes]
            assert keys == sorted(set(keys))
            found = {(c.directory, c.name): tuple(c[2:]) for c in changes if isinstance(c, Found)}
            removed = {tuple(change) for change in changes if isinstance(change, Removal)}
            # What was too young when it was recorded counts as changed ever after.
            trusted = {e: status for e, status in previous.items() if status[2] == OLD_NS}
            assert found == {e: status for e, status in entries.items() if trusted.get(e) != status}
            assert removed == previous.keys() - entries.keys()
            previous = entries


def test_what_did_not_change_is_not_written_again(tmp_path: Path) -> None:
    entries: Entries = {(b"d", b"%02d" % n): (n, OLD_NS, OLD_NS, n, FILE_MODE) for n in range(20)}
    scan(tmp_path, entries, 4)
    (path,) = tmp_path.iterdir()
    before = path.stat()
    assert scan(tmp_path, entries, 4) == []
    assert path.stat() == before
    # The first change comes late: what is before it is copied, what is behind it merged.
    entries[b"d", b"17"] = (99, OLD_NS, OLD_NS, 17, FILE_MODE)
    (change,) = scan(tmp_path, entries, 4)
    assert change.name == b"17"
    assert path.stat().st_ino != before.st_ino
    assert scan(tmp_path, entries, 4) == []
    assert scan(tmp_path, entries, 5) == [], "another length of runs means comparing each entry, and no more"
    assert len(list(tmp_path.iterdir())) == 1


def test_large_files_are_alone_and_batches_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(delta_module, "ALONE_BYTES", 100)
    monkeypatch.setattr(delta_module, "BATCH_BYTES", 50)
    monkeypatch.setattr(delta_module, "BATCH_CHANGES", 3)
    sizes = [10, 10, 10, 10, 200, 60, 10, 150, 100]
    entries: Entries = {(b"", b"%02d" % n): (size, OLD_NS, OLD_NS, n, FILE_MODE) for n, size in enumerate(sizes)}
    writer = ScanWriter(tmp_path, KEY, None)
    batches = list(Delta(runs_of(entries, 100), iter(()), writer).batches())
    writer.discard()
    assert [[c.size for c in batch.changes if isinstance(c, Found)] for batch in batches if batch.changes] == [
        [10, 10, 10],
        [10],
        [200],
        [60],
        [10],
        [150],
        [100],
    ]


@pytest.mark.parametrize(
    ("mtime_ns", "ctime_ns", "young"),
    [
        (OLD_NS, OLD_NS, False),
        (OLD_NS, NOW_NS, True),
        (NOW_NS, OLD_NS, True),
        (NOW_NS + 10**12, OLD_NS, True),
        (OLD_NS, NOW_NS - FINE_TICK_NS, True),
        (OLD_NS, NOW_NS - FINE_TICK_NS - 1, False),
        (0, (NOW_NS - FINE_TICK_NS) // 10**9 * 10**9, True),
        (0, (NOW_NS - COARSE_TICK_NS) // 10**9 * 10**9, False),
    ],
)
def test_what_is_young(mtime_ns: int, ctime_ns: int, young: bool) -> None:
    assert is_young(mtime_ns, ctime_ns, NOW_NS) is young


def test_the_untrusted_status_is_no_real_one() -> None:
    assert len(UNTRUSTED) == STATUS.size
    assert STATUS.unpack(UNTRUSTED)[4] == 0
