"""Publishing into a bucket: what a kill costs, and what was promised not to be sent twice.

Nothing here waits for a moment: the server stalls at a request, and says when it was asked.
"""

# The fixture is imported, and then used as an argument of the same name:
# ruff: noqa: F401, F811

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fsd.errors import StoreUnreachableError
from fsd.limits import DEFAULT_LIMITS, KIB, MIB
from integration.accidents import killed_at
from integration.datasets import noise, write_dataset
from integration.gcs_fixtures import server
from integration.gcs_server.faults import Stall, Status
from integration.gcs_server.server import GcsServer
from integration.program import Program
from tests.publish.folders import read_folder

PACK_BYTES = 256 * KIB


@pytest.fixture
def program(server: GcsServer, tmp_path: Path) -> Program:  # noqa: ARG001
    made = Program(tmp_path / "home")
    made.environment["FSD_STORE"] = "gs://bucket/x"
    made.configure(pack_bytes=PACK_BYTES, own_pack_bytes="1M", retry_min_s=0.01, store_attempts=2)
    made("init")
    return made


def stored(server: GcsServer, kind: str) -> int:
    """Bytes of all objects of a kind."""
    bucket = server.buckets["bucket"]
    return sum(found.content.size for name in bucket.names(f"x/{kind}/", "") if (found := bucket.find(name)))


def killed_unanswered(
    server: GcsServer, program: Program, source: Path, operation: str, match: str, after: int = 0
) -> None:
    """Publish until the server was asked something for the n-th time; it does that, but the answer never comes."""
    killed_at(server.faults.add(Stall(), operations=[operation], match=match, times=1, after=after), program, source)
    server.counters.wait_idle()


def check(program: Program, source: Path, into: Path) -> None:
    program("checkout", "data/main", into)
    assert read_folder(into) == read_folder(source)
    assert program.json("commit", source, "data")["new"] is False


@pytest.mark.parametrize(
    ("operation", "match", "after"),
    [("insert", "x/packs/*", 12), ("insert", "x/pages/*", 0), ("insert", "x/refs/data/main", 0)],
    ids=["while packs are sent", "at the first page", "at the branch"],
)
def test_packs_that_arrived_are_not_sent_again(
    server: GcsServer, program: Program, tmp_path: Path, operation: str, match: str, after: int
) -> None:
    source = write_dataset(tmp_path / "source", 1, small=120, large=2, large_bytes=1_500_000)
    killed_unanswered(server, program, source, operation, match, after)
    arrived = stored(server, "packs")
    assert arrived >= after * PACK_BYTES // 2
    server.counters.reset()
    program("commit", source, "data")
    server.counters.wait_idle()
    # Those that were under way may be there without the publisher having heard of it.
    unsure = (DEFAULT_LIMITS.upload_tasks * PACK_BYTES + 2 * MIB) if match.startswith("x/packs") else 0
    sent_again = server.counters.bytes_in
    check(program, source, tmp_path / "out")
    whole = sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
    assert sent_again <= max(0, whole - arrived) + unsure + 256 * KIB


@pytest.mark.parametrize("how", ["killed", "without a network"])
def test_a_large_file_goes_on_where_it_broke_off(server: GcsServer, program: Program, tmp_path: Path, how: str) -> None:
    size = 80 * MIB
    source = tmp_path / "source"
    source.mkdir()
    (source / "large").write_bytes(noise(1, size))
    notes = tmp_path / "home/.local/state/fsd/chunks"
    if how == "killed":
        killed_unanswered(server, program, source, "resumable.part", "*", after=2)
    else:
        server.faults.add(Status(503), operations=["resumable.part"], times=2, after=2)
        failed = program.run("commit", source, "data")
        assert failed.returncode == StoreUnreachableError.exit_code
        assert "upload_id" not in failed.stdout + failed.stderr
    (bookmark,) = notes.glob("*/uploads/*")
    assert bookmark.stat().st_mode & 0o777 == 0o600
    assert json.loads(json.loads(bookmark.read_bytes())["text"])["received"] == 48 * MIB
    server.counters.reset()
    program("commit", source, "data")
    server.counters.wait_idle()
    assert server.counters.requests["resumable.start"] == 0
    assert server.counters.bytes_in <= size - 48 * MIB + MIB
    assert list(notes.glob("*/uploads/*")) == []
    check(program, source, tmp_path / "out")


def test_how_often_the_store_is_asked(server: GcsServer, program: Program, tmp_path: Path) -> None:
    """Each request that waits for another is a round trip."""
    source = write_dataset(tmp_path / "source", 1, small=60, large=0, large_bytes=0)
    program("commit", source, "data")
    server.counters.wait_idle()
    server.counters.reset()
    program("commit", source, "data")
    server.counters.wait_idle()
    assert server.counters.requests["insert"] == 0
    assert server.counters.requests["media"] <= 3, "the marker, the branch, the commit"
    (source / "d0/f0").write_bytes(b"changed")
    server.counters.reset()
    program("commit", source, "data")
    server.counters.wait_idle()
    names = [record.name.removeprefix("x/").split("/")[0] for record in server.counters.records]
    reads = [
        name
        for name, record in zip(names, server.counters.records, strict=True)
        if record.operation == "media" and record.name != "x/refs/index"
    ]
    assert sorted(reads) == ["commits", "fsd.json", "pages", "refs"], "nothing is read twice"
