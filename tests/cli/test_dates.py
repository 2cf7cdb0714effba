"""Branches by date, wherever a revision is taken."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from fsd.format.ref import encode_ref, parse_ref
from fsd_cli.text import date_in_revision

from .conftest import Fsd

NOON_US = 1_767_268_800_000_000
"""2026-01-01T12:00:00Z, when the first of the two moves was made; the second, an hour later."""

HOUR_US = 3_600_000_000


@pytest.fixture
def dated(fsd: Fsd, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fsd:
    """`fsd` with the published store, as if that had been published then."""
    store = tmp_path / "store"
    shutil.copytree(published, store)
    path = store / "refs" / "birds" / "main"
    ref = parse_ref(path.read_bytes(), "main")
    moves = tuple(move._replace(time_us=NOON_US + at * HOUR_US) for at, move in enumerate(ref.moves))
    path.chmod(0o644)
    path.write_bytes(encode_ref(dataclasses.replace(ref, moves=moves)))
    monkeypatch.setenv("FSD_STORE", str(store))
    return fsd


def test_a_branch_as_it_stood_then(dated: Fsd) -> None:
    def label_bytes(revision: str) -> int:
        (entry,) = dated.json("ls", f"birds/{revision}/labels.csv")
        return int(entry["bytes"])

    assert label_bytes("main@2026-01-01T12:00") == 5
    assert label_bytes("main@2026-01-01T13:59:59+01:00") == 5
    assert label_bytes("main@2026-01-01") == 10_000
    assert label_bytes("main@yesterday") == 10_000
    assert dated("ls", "birds/main@2026-01-01+50pct")
    dated("tag", "birds", "main@2026-01-01T12:30", "noon")
    assert dated.json("log", "birds/noon") == dated.json("log", "birds/main@2026-01-01T12:30")


def test_dates_are_copied_from_the_log(dated: Fsd) -> None:
    lines = dated("log", "birds/main", "--moves").splitlines()
    assert lines[0].split() == ["SINCE", "(UTC)", "COMMIT", "SUMMARY"]
    for line, moved_us in zip(lines[1:], (NOON_US + HOUR_US, NOON_US), strict=True):
        since, commit, *_ = line.split()
        assert since == date_in_revision(moved_us)
        assert dated.json("log", f"birds/main@{since}")[0]["commit"].startswith(commit)


def test_what_has_no_answer(dated: Fsd) -> None:
    assert "has only been there since" in dated.fails(4, "ls", "birds/main@2025-12-31")
    assert "is in the future" in dated.fails(4, "ls", "birds/main@2999-01-01")
    assert "is no date" in dated.fails(2, "ls", "birds/main@lately")
    assert "is a tag" in dated.fails(4, "ls", "birds/v1@2026-01-01")
