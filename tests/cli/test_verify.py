"""`fsd verify`: what it prints of a whole store and of one that is not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from .conftest import Fsd


@pytest.fixture
def copy(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The published store, to be spoiled."""
    store = tmp_path / "copy"
    shutil.copytree(published, store)
    monkeypatch.setenv("FSD_STORE", str(store))
    return store


def largest_pack(store: Path) -> Path:
    packs = [path for path in (store / "packs").rglob("*") if path.is_file()]
    return max(packs, key=lambda path: path.stat().st_size)


def test_a_whole_store(look: Fsd) -> None:
    assert look("verify").splitlines()[-1] == "all of it is there"
    assert look("verify", "--data").splitlines()[-1] == "all of it is there and right"
    report = look.json("verify", "--data")
    assert report["whole"] is True
    assert report["damages"] == report["files"] == []
    assert report["chunks"] > 100


def test_a_pack_that_is_gone(fsd: Fsd, copy: Path) -> None:
    pack = largest_pack(copy)
    pack.unlink()
    code, out, err = fsd.result("verify")
    assert code == 6
    assert f"{pack.name}: it is missing" in out
    assert "files cannot be read whole:" in out
    assert err.startswith("fsd: 1 thing in ")
    assert "publish them again" in err
    code, out, _ = fsd.result("verify", "--json")
    report = json.loads(out)
    assert code == 6
    assert [damage["what"] for damage in report["damages"]] == ["pack"]
    assert report["files_concerned"] == len(report["files"]) > 1
    assert any(file.startswith("birds/") and file.endswith("/large.bin") for file in report["files"])


def test_a_flipped_bit(fsd: Fsd, copy: Path) -> None:
    pack = largest_pack(copy)
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.chmod(0o644)
    pack.write_bytes(data)
    fsd("verify")
    code, out, _ = fsd.result("verify", "--data")
    assert code == 6
    assert out.startswith("chunk    ")
    assert f"(pack {pack.name} at " in out


def test_names_do_nothing_to_the_terminal(fsd: Fsd, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "odd\nname \x1b[1m").write_text("odd")
    fsd("commit", folder, "odd")
    [pack] = [path for path in (fsd.own_store / "packs").rglob("*") if path.is_file()]
    pack.unlink()
    code, out, _ = fsd.result("verify")
    assert code == 6
    assert "\x1b" not in out
    assert any(line.endswith('/odd\\nname \\x1b[1m"') for line in out.splitlines())
