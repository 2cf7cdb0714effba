"""`fsd config`: what holds, from where, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Fsd


@pytest.fixture
def user_file(fsd: Fsd) -> Path:
    path = fsd.home / "config" / "fsd" / "config.toml"
    path.parent.mkdir(parents=True)
    return path


def settings(fsd: Fsd, *options: str | Path) -> dict[str, tuple[object, str]]:
    return {each["key"]: (each["value"], each["from"]) for each in fsd.json("config", "show", *options)}


def test_with_no_configuration_everything_is_at_its_default(fsd: Fsd) -> None:
    shown = settings(fsd)
    assert {origin for _, origin in shown.values()} == {"default"}
    assert shown["store"] == (str(fsd.own_store), "default")
    assert shown["cache_dir"] == (None, "default")
    assert shown["cache_size"] == (50 << 30, "default")
    assert shown["limits.read_deadline_s"] == (300.0, "default")
    assert "everything is at its default" in fsd("config", "check")


def test_every_value_says_where_it_comes_from(fsd: Fsd, user_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = fsd.home / "etc" / "site.toml"
    system.parent.mkdir()
    system.write_text('store = "/site"\ncache_size = "1G"\n[limits]\nfetch_attempts = 7\n')
    user_file.write_text('cache_dir = "~/c"\n[limits]\nfetch_attempts = 8\n')
    shown = settings(fsd)
    assert shown["store"] == ("/site", str(system))
    assert shown["cache_size"] == (1 << 30, str(system))
    assert shown["cache_dir"] == (str(fsd.home / "c"), str(user_file))
    assert shown["limits.fetch_attempts"] == (8, str(user_file))
    monkeypatch.setenv("FSD_STORE", "/environment")
    assert settings(fsd)["store"] == ("/environment", "FSD_STORE")
    assert settings(fsd, "--store", "/option")["store"] == ("/option", "--store")
    assert settings(fsd, "--config", system)["cache_dir"] == (None, "default")


def test_as_text_the_limits_that_were_set(fsd: Fsd, user_file: Path) -> None:
    user_file.write_text("allow_other = true\n[limits]\nrange_bytes = '4M'\n")
    out = fsd("config", "show")
    assert ["limits.range_bytes", "4.0", "MiB", str(user_file)] in [line.split() for line in out.split("\n")]
    assert ["allow_other", "true", str(user_file)] in [line.split() for line in out.split("\n")]
    assert "read_deadline_s" not in out
    assert "limits at their defaults; --all shows them" in out
    assert "read_deadline_s" in fsd("config", "show", "--all")


def test_all_mistakes_of_all_files(fsd: Fsd, user_file: Path) -> None:
    system = fsd.home / "etc" / "data.toml"
    system.parent.mkdir()
    # The mount of the service is checked whole, though others take only its store.
    system.write_text("mountpoint = '/fsd'\ncache_dri = '/c'\n")
    user_file.write_text("store = 1\n[limits]\nunmount_timeout = 7\n")
    code, out, err = fsd.result("config", "check")
    assert code == 2
    assert out.splitlines() == [
        f"{system}: unknown key 'cache_dri'; did you mean 'cache_dir' or 'cache_size'?",
        f"{user_file}: store must be a URL, or a path that starts with / or ~/, not 1",
        f"{user_file}: unknown key 'unmount_timeout' in [limits]; did you mean 'unmount_timeout_s'"
        " or 'entry_timeout_s' or 'immutable_timeout_s'?",
    ]
    assert err == "fsd: 3 mistakes in the configuration\n"


def test_one_file(fsd: Fsd, tmp_path: Path) -> None:
    path = tmp_path / "data.toml"
    path.write_text("store = '/a'\n")
    assert fsd("config", "check", path) == f"{path}: right\n"
    assert fsd.json("config", "check", path) == [{"file": str(path), "problems": []}]
    path.write_text("stoer = '/a'\n")
    code, out, _ = fsd.result("config", "check", path, "--json")
    assert code == 2
    assert "did you mean 'store'?" in out
    assert "does not exist" in fsd.fails(2, "config", "check", tmp_path / "missing.toml")


def test_a_mount_needs_a_mountpoint(fsd: Fsd) -> None:
    for command in ("mount", "umount"):
        assert "missing argument MOUNTPOINT; give one, or set mountpoint" in fsd.fails(2, command)
