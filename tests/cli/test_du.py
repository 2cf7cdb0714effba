"""`fsd du` without a mount."""

from __future__ import annotations

import pytest

from fsd.limits import Limits
from fsd.stores.base import Store
from fsd.stores.open import open_store

from .conftest import Fsd


def test_what_a_version_takes(look: Fsd) -> None:
    (usage,) = look.json("du", "birds/v1")
    assert set(usage) == {
        "what", "repository", "revision", "commit", "path", "files", "directories", "symlinks", "bytes",
        "stored_bytes", "cached_bytes", "missing_bytes", "against",
    }  # fmt: skip
    assert (usage["files"], usage["symlinks"], usage["directories"]) == (25, 1, 4)
    (row,) = (row for row in look.json("ls", "birds") if row["name"] == "v1")
    assert (usage["bytes"], usage["commit"]) == (row["bytes"], row["commit"])
    assert 5_000_000 <= usage["stored_bytes"] <= usage["bytes"]
    assert (usage["cached_bytes"], usage["against"]) == (None, None)


def test_paths_are_rows(look: Fsd) -> None:
    lines = look("du", "birds/v1/large.bin", "birds/v2/labels.csv", "birds").splitlines()
    assert [line.split() for line in lines[:2]] == [
        ["FILES", "SIZE", "STORED", "WHAT"],
        ["1", "4.8", "MiB", "4.8", "MiB", "birds/v1/large.bin"],
    ]
    assert lines[2].split()[:3] == ["1", "9.8", "KiB"]
    assert lines[3].split()[0] == "25"


def test_the_store_is_opened_once(look: Fsd, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def counting(url: str, limits: Limits) -> Store:
        opened.append(url)
        return open_store(url, limits)

    monkeypatch.setattr("fsd_cli.opening.open_store", counting)
    rows = look.json("du", "birds/v1", "birds/v2/labels.csv", "birds/v1", "--against", "v1")
    assert [row["what"] for row in rows] == ["birds/v1", "birds/v2/labels.csv", "birds/v1"]
    assert rows[0] == rows[2]
    assert len(opened) == 1


def test_what_a_switch_would_fetch(look: Fsd) -> None:
    (usage,) = look.json("du", "birds/v2", "--against", "v1")
    assert usage["against"]["files"] == 1
    assert usage["against"]["bytes"] == 10_000
    assert 0 < usage["against"]["stored_bytes"] < 200
    assert look("du", "birds/v2", "--against", "v1").splitlines()[0].split()[-3:] == ["BEYOND", "v1", "WHAT"]
    (usage,) = look.json("du", "birds/v2+tiny", "--against", "v2")
    assert usage["against"]["files"] == 0


def test_what_is_not_there(look: Fsd) -> None:
    assert "did you mean 'v1'" in look.fails(4, "du", "birds/v11")
    assert "no imagges in birds/v1" in look.fails(4, "du", "birds/v1/imagges")
    assert "did you mean 'v1'" in look.fails(4, "du", "birds/v2", "--against", "v11")
    assert "is in no mount of fsd" in look.fails(4, "du", "/etc")
    look.fails(2, "du")
