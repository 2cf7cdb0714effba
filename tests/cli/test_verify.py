"""`fsd verify`: what it prints of a whole store and of one that is not."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from fsd.cache.folder import CacheFolder

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


def snapshot(store: Path) -> dict[str, bytes]:
    """The objects of a store."""
    files = [path for path in store.rglob("*") if path.is_file() and ".tmp" not in path.parts]
    return {str(path.relative_to(store)): path.read_bytes() for path in files if path.name != ".lock"}


def objects(store: Path) -> dict[str, bytes]:
    """Those that are written once. (A lease stays where giving it back took too long; it ends by itself.)"""
    return {key: data for key, data in snapshot(store).items() if not key.startswith(("refs/", "leases/"))}


def spoil_all(store: Path) -> None:
    """Take what can be taken, but for refs: half of it is gone, of the other half every object is cut off."""
    for number, key in enumerate(sorted(objects(store))):
        if key == "fsd.json":
            continue
        path = store / key
        if number % 2:
            path.unlink()
        else:
            path.chmod(0o644)
            path.write_bytes(path.read_bytes()[:20])


def test_repair_from_the_cache_that_a_checkout_filled(fsd: Fsd, copy: Path, tmp_path: Path) -> None:
    for revision in ("birds/v1", "birds/v2", "birds/v2+tiny", "model/main"):
        fsd("checkout", revision, tmp_path / revision.replace("/", "-"))
    # What other tests left in the store they share, and nothing names, is nothing to be put back.
    fsd("gc", "--grace", "0", "--repack", "0")
    before = objects(copy)
    spoil_all(copy)
    code, out, err = fsd.result("verify")
    assert code == 6
    assert "'fsd verify --repair' puts back what this machine has of it" in err
    out = fsd("verify", "--repair")
    assert out.startswith("put back:\n  commit ")
    assert f"from the cache in {fsd.home / 'cache' / 'fsd'}" in out
    assert out.splitlines()[-1] == "all of it is there"
    assert objects(copy).keys() == before.keys(), out
    assert objects(copy) == before
    assert fsd("verify", "--data").splitlines()[-1] == "all of it is there and right"
    assert "put back" not in fsd("verify", "--repair")


def test_repair_from_folders(fsd: Fsd, copy: Path, tmp_path: Path) -> None:
    fsd("checkout", "birds/v1", tmp_path / "v1")
    fsd("checkout", "birds/v2", tmp_path / "v2")
    shutil.rmtree(fsd.home / "cache")
    before = objects(copy)
    for path in (copy / "packs").rglob("*"):
        if path.is_file():
            path.unlink()
    code, out, err = fsd.result("verify", "--repair")
    assert code == 6
    assert "this machine has no cache of the store; --from DIR names a folder to look in" in err
    assert "put back" not in out
    code, out, err = fsd.result("verify", "--repair", "--from", tmp_path / "v1", "--json")
    report = json.loads(out)
    assert code == 6
    assert {file.split("/")[-1] for file in report["files"]} == {"labels.csv"}
    assert {tuple(mended["origins"]) for mended in report["mended"]} == {(str(tmp_path / "v1"),)}
    assert {damage["what"] for damage in report["found"]} == {"pack"}
    assert "repair it where it was read, or with --from DIR" in err
    fsd("verify", "--repair", "--from", tmp_path / "v1", "--from", tmp_path / "v2")
    assert {key: data for key, data in objects(copy).items() if key in before} == before
    assert fsd.fails(2, "verify", "--from", tmp_path) == "--from is for --repair"


def test_a_cache_that_is_in_use_is_named(fsd: Fsd, copy: Path, tmp_path: Path) -> None:
    """By a mount that is not to be seen from here, say: then it must go before what it has can be put back."""
    fsd("checkout", "birds/v1", tmp_path / "v1")
    largest_pack(copy).unlink()
    [cache] = (fsd.home / "cache" / "fsd").iterdir()
    folder = CacheFolder(cache, "/somewhere")
    try:
        code, _, err = fsd.result("verify", "--repair")
        assert code == 6
        assert f"going without the cache: cache folder {cache} is in use by process {os.getpid()} (/somewhere)" in err
    finally:
        folder.close()
    fsd("verify", "--repair")
