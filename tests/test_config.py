"""Configuration files: what they set, how they stack, and what is said about mistakes in them."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pytest

from fsd.config import (
    Config,
    config_files,
    default_cache_path,
    default_store_path,
    find_problems,
    format_size,
    load_config,
    parse_size,
)
from fsd.errors import FsdError, UsageError
from fsd.limits import DEFAULT_LIMITS, GIB, KIB, MIB, Limits

HOME = Path("/home/ada")


def load(tmp_path: Path, *texts: str) -> Config:
    files = []
    for number, text in enumerate(texts):
        files.append(tmp_path / f"{number}.toml")
        files[-1].write_text(text)
    return load_config(files, home=HOME)


def test_nothing_said_means_defaults(tmp_path: Path) -> None:
    assert load(tmp_path) == load(tmp_path, "") == Config(None, None, DEFAULT_LIMITS)
    assert Config().cache_size == DEFAULT_LIMITS.cache_bytes


def test_all_keys(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        """
        store = "gs://bucket/prefix"
        cache_dir = "~/fast/cache"
        cache_size = "100G"
        mountpoint = "/fsd"
        allow_other = true
        log_format = "json"
        log_level = "debug"
        metrics = "[::1]:9469"
        [limits]
        read_deadline_s = 60
        store_threads = 4
        range_bytes = "4M"
        pack_bytes = 1_000_000
        """,
    )
    assert config.store == "gs://bucket/prefix"
    assert config.cache_dir == HOME / "fast/cache"
    assert config.cache_size == 100 * GIB
    assert (config.mountpoint, config.allow_other) == (Path("/fsd"), True)
    assert (config.log_format, config.log_level, config.metrics) == ("json", "debug", ("::1", 9469))
    assert config.limits == replace(
        DEFAULT_LIMITS,
        cache_bytes=100 * GIB,
        read_deadline_s=60.0,
        store_threads=4,
        range_bytes=4 * MIB,
        pack_bytes=1_000_000,
    )
    assert isinstance(config.limits.read_deadline_s, float)


def test_later_files_go_over_earlier_ones_key_by_key(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        'store = "/one"\ncache_size = "1G"\n[limits]\nfetch_attempts = 7\nstore_threads = 7',
        'store = "~/two"\n[limits]\nstore_threads = 9',
        "[limits]\ncache_bytes = 5",
    )
    assert config.store == "/home/ada/two"
    assert config.cache_size == 5
    assert (config.limits.fetch_attempts, config.limits.store_threads) == (7, 9)


@pytest.mark.parametrize("name", [field.name for field in fields(Limits)])
def test_every_limit_can_be_set(tmp_path: Path, name: str) -> None:
    config = load(tmp_path, f"[limits]\n{name} = 3")
    value = getattr(config.limits, name)
    assert value == 3
    assert type(value) is type(getattr(DEFAULT_LIMITS, name))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stoer = '/x'", "unknown key 'stoer'; did you mean 'store'?"),
        ("x = 1", "unknown key 'x'; known are: store, cache_dir, cache_size, limits"),
        ("[limits]\nread_deadlines = 1", "unknown key 'read_deadlines' in [limits]; did you mean 'read_deadline_s'"),
        ("store = 1", "store must be a URL, or a path that starts with / or ~/, not 1"),
        ("store = 'relative'", "store must be a URL, or a path that starts with / or ~/, not 'relative'"),
        ("cache_dir = 'relative'", "cache_dir must be a path that starts with / or ~/, not 'relative'"),
        ("cache_dir = '~other/x'", "cache_dir must be a path"),
        ("mountpoint = 'fsd'", "mountpoint must be a path that starts with / or ~/, not 'fsd'"),
        ("allow_other = 'yes'", "allow_other must be true or false, not 'yes'"),
        ("log_format = 'xml'", "log_format must be one of auto, text, json, journal, not 'xml'"),
        ("log_level = 1", "log_level must be one of debug, info, warning, error, not 1"),
        ("metrics = 9469", "metrics must be an address and a port, such as 127.0.0.1:9469 or [::1]:9469, not 9469"),
        ("metrics = ':9469'", "metrics must be an address and a port"),
        ("metrics = 'a:99999'", "metrics must be an address and a port"),
        ("cache_size = 'many'", "cache_size: 'many' is no size; write a number"),
        ("cache_size = 1.5", 'cache_size must be bytes: a whole number, or a text such as "100G", not 1.5'),
        ("cache_size = -1", "cache_size must be bytes"),
        ("cache_size = true", "cache_size must be bytes"),
        ("limits = 1", "limits must be a table, not 1"),
        ("[limits]\nstore_threads = 0", "store_threads must be a whole number, at least 1, not 0"),
        ("[limits]\nstore_threads = true", "store_threads must be a whole number"),
        ("[limits]\nstore_threads = '4'", "store_threads must be a whole number, at least 1, not '4'"),
        ("[limits]\nread_deadline_s = -1", "read_deadline_s must be a number, not negative, not -1"),
        ("[limits]\nread_deadline_s = nan", "read_deadline_s must be a number"),
        ("[limits]\nread_deadline_s = inf", "read_deadline_s must be a number"),
        ("[limits]\nread_deadline_s = '5'", "read_deadline_s must be a number"),
        ("cache_size = 1\n[limits]\ncache_bytes = 1", "cache_size and limits.cache_bytes are the same"),
        ("store = ", "is not TOML"),
        ("store = '/a'\nstore = '/b'", "is not TOML"),
    ],
)
def test_mistakes_name_the_file_and_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(tmp_path, "", text)
    assert str(caught.value).startswith(f"{tmp_path}/1.toml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"binary\.toml is not TOML"):
        load_config([tmp_path / "binary.toml"], home=HOME)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(FsdError, match=r"cannot read the configuration \S+/folder.toml: Is a directory"):
        load_config([tmp_path / "folder.toml"], home=HOME)


def test_every_value_knows_its_file(tmp_path: Path) -> None:
    config = load(tmp_path, 'store = "/one"\ncache_size = 5', 'store = "/two"\n[limits]\nfetch_attempts = 7')
    first, second = tmp_path / "0.toml", tmp_path / "1.toml"
    assert config.origins == {"store": second, "limits.cache_bytes": first, "limits.fetch_attempts": second}


def test_all_mistakes_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text("store = 1\nx = 1\nallow_other = true\n[limits]\nstore_threads = 0\nread_deadlines = 1")
    found = [problem.message for problem in find_problems(path, home=HOME)]
    assert [message.split(": ")[1].split()[0] for message in found] == ["store", "unknown", "store_threads", "unknown"]
    path.write_text("store = ")
    assert ["is not TOML" in problem.message for problem in find_problems(path, home=HOME)] == [True]
    path.write_text("store = '/a'")
    assert find_problems(path, home=HOME) == []


def test_of_a_mount_of_the_service_others_take_the_store(tmp_path: Path) -> None:
    system, user = tmp_path / "etc", tmp_path / "user.toml"
    system.mkdir()
    (system / "20-data.toml").write_text('store = "/data"\nmountpoint = "/fsd"\ncache_dir = "/c"\nallow_other = true')
    user.write_text("cache_size = 5")
    files = config_files(system, user)
    config = load_config(files, home=HOME, system=system)
    assert config == replace(Config(store="/data"), limits=replace(DEFAULT_LIMITS, cache_bytes=5))
    # A file for everybody weighs more, whatever it is called.
    (system / "10-site.toml").write_text('store = "/site"')
    assert load_config(config_files(system, user), home=HOME, system=system).store == "/site"
    # For the mount itself it is the configuration.
    alone = load_config([system / "20-data.toml"], home=HOME)
    assert (alone.mountpoint, alone.cache_dir, alone.allow_other) == (Path("/fsd"), Path("/c"), True)


def test_files_come_in_the_order_of_their_weight(tmp_path: Path) -> None:
    system, user = tmp_path / "etc", tmp_path / "user.toml"
    assert config_files(system, user) == []
    system.mkdir()
    for name in ("20-site.toml", "10-base.toml", "notes.txt"):
        (system / name).touch()
    assert config_files(system, user) == [system / "10-base.toml", system / "20-site.toml"]
    user.touch()
    assert config_files(system, user)[-1] == user


def test_default_places() -> None:
    assert default_store_path(Path("/data")) == Path("/data/fsd/store")
    assert default_cache_path(Path("/cache"), "0123abcd") == Path("/cache/fsd/0123abcd")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1048576", MIB),
        (" 100 G ", 100 * GIB),
        ("100g", 100 * GIB),
        ("100GiB", 100 * GIB),
        ("100GB", 100 * 10**9),
        ("1.5K", 1536),
        ("7B", 7),
        ("9007199254740993", 9007199254740993),
        ("8191P", 8191 * KIB**5),
    ],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "G", "-1", "1e9", "1 2", "1X", "1GG", "0x10", "nan", "½G", "٣G", "8192P", "8E", "1_000"]
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (MIB - 1, "1.0 MiB"),
        (100 * GIB, "100.0 GiB"),
        (1 << 70, "1024.0 EiB"),
    ],
)
def test_sizes_are_written(size: int, text: str) -> None:
    assert format_size(size) == text


@hypothesis.given(st.integers(0, 1 << 62))
def test_a_written_size_is_nearly_the_one_read(size: int) -> None:
    assert abs(parse_size(format_size(size)) - size) <= size * 0.05
