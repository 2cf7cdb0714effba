"""The configuration: TOML files in the order of increasing weight, each key checked, each error naming its file.

Owns the files' format, and sizes as people write them. Knows neither the environment nor the command line: the
locations are handed in, and what the user typed goes over what is read here.

    store = "gs://bucket/prefix"        # or an absolute path, or ~/path
    mountpoint = "/fsd"                 # where `fsd mount` mounts it
    allow_other = true                  # other users may read the mount
    cache_dir = "/var/cache/fsd"
    cache_size = "200G"
    log_format = "json"                 # of the daemon; "text", or "auto": the journal's where that listens
    log_level = "info"
    metrics = "127.0.0.1:9469"          # where Prometheus may ask for them

    [limits]                            # any field of fsd.limits.Limits by its name
    read_deadline_s = 60
    fetch_bytes = "256M"

A file of the system's folder that has a `mountpoint` describes one mount of the service. It is read alone for that
mount; of everybody else's configuration it is the lowest part, and only with its `store`.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from fsd.errors import FsdError, UsageError, near_misses
from fsd.limits import DEFAULT_LIMITS, Limits

_BINARY_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50, "E": 1 << 60}
_DECIMAL_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "PB": 10**15, "EB": 10**18}
_UNITS = {
    **_BINARY_UNITS,
    "B": 1,
    **{f"{letter}IB": size for letter, size in _BINARY_UNITS.items() if letter},
    **_DECIMAL_UNITS,
}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", re.ASCII)
_MAX_SIZE = (1 << 63) - 1
_ADDRESS = re.compile(r"([A-Za-z0-9.-]+|\[[0-9a-fA-F:.]+\]):(\d{1,5})", re.ASCII)
_MAX_PORT = (1 << 16) - 1


LOG_FORMATS = ("auto", "text", "json", "journal")
LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True)
class Config:
    """What the files said; defaults where they said nothing."""

    store: str | None = None
    """As `open_store` takes it; None: nobody named one."""
    cache_dir: Path | None = None
    """None: the default for the store (`default_cache_path`)."""
    limits: Limits = DEFAULT_LIMITS
    mountpoint: Path | None = None
    """Where a mount goes that is given no other place."""
    allow_other: bool = False
    """Other users may read the mount."""
    log_format: str = "auto"
    """One of `LOG_FORMATS`."""
    log_level: str = "info"
    """One of `LOG_LEVELS`."""
    metrics: tuple[str, int] | None = None
    """The address and port where metrics are served; None: on the control socket alone."""
    origins: Mapping[str, Path] = field(default_factory=dict, compare=False)
    """By key, the file that it comes from: `limits.NAME` for a limit. What no file said has none."""

    @property
    def cache_size(self) -> int:
        """Bytes that the cache may take on disk. `cache_size` in a file is another name for this limit."""
        return self.limits.cache_bytes


@dataclass(frozen=True, slots=True)
class ConfigSource:
    """Where a configuration was read, so that it can be read again."""

    files: tuple[Path, ...]
    """In the order of increasing weight."""
    home: Path
    system: Path | None = None
    """The folder of `load_config`."""
    options: Mapping[str, str] = field(default_factory=dict)
    """What goes over all files (`with_options`)."""

    def load(self) -> Config:
        """What holds now. Raises UsageError, FsdError."""
        return with_options(load_config(self.files, home=self.home, system=self.system), self.options)


def config_files(system: Path, user: Path) -> list[Path]:
    """The files that are there, in the order of increasing weight: `*.toml` in the folder `system` by name, then the
    file `user`."""
    candidates = [*sorted(system.glob("*.toml")), user]
    return [path for path in candidates if path.exists()]


def load_config(files: Iterable[Path], *, home: Path, system: Path | None = None) -> Config:
    """Read `files`; a later one goes over an earlier one, key by key. `~` stands for `home`.

    Of those in the folder `system` that describe a mount of the service, only the store counts, below all others.
    Raises UsageError for what is wrong in a file, FsdError for a file that cannot be read.
    """
    tables = [(path, _read(path)) for path in files]
    of_mounts = [path for path, table in tables if path.parent == system and "mountpoint" in table]
    config = Config()
    for path, table in sorted(tables, key=lambda each: each[0] not in of_mounts):
        used = {key: table[key] for key in ("store",) if key in table} if path in of_mounts else table
        config, problems = _merge(config, used, _Source(path, home))
        if problems:
            raise problems[0]
    return config


def find_problems(path: Path, *, home: Path) -> list[UsageError]:
    """Everything that is wrong in one file. Raises FsdError if it cannot be read."""
    try:
        table = _read(path)
    except UsageError as error:
        return [error]
    return _merge(Config(), table, _Source(path, home))[1]


def with_options(config: Config, options: Mapping[str, str]) -> Config:
    """`config` with limits, and what else is a size or a word, as written in a mount's options. Raises UsageError."""
    table = {key if key in _KEYS else f"{_LIMITS}{key}": _number_or_text(text) for key, text in options.items()}
    for key, value in table.items():
        source = _Source(Path("-o"), Path("/"))
        config = _KEYS[key](config, value, source) if key in _KEYS else _set_limit(config, key, value, source)
    return config


def _number_or_text(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def _read(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from None
    except OSError as error:
        raise FsdError(f"cannot read the configuration {path}: {error.strerror}") from error


def parse_size(text: str) -> int:
    """Bytes: '1048576', '100G' and '100GiB' (powers of 1024), '100GB' (powers of 1000), '1.5T'. Raises UsageError."""
    match = _SIZE.fullmatch(text.strip())
    unit = _UNITS.get(match[2].upper()) if match else None
    if match is None or unit is None:
        raise UsageError(f"{text!r} is no size", hint="write a number with or without a unit: 500M, 100G, 1.5T")
    size = int(match[1]) * unit if match[1].isdigit() else int(float(match[1]) * unit)
    if size > _MAX_SIZE:
        raise UsageError(f"{text!r} is more than any disk holds")
    return size


def format_size(size: int) -> str:
    """'0 B', '1023 B', '1.0 KiB', '14.3 GiB': three digits or so, for people."""
    if size < 1024:
        return f"{size} B"
    value, units = float(size), iter(("KiB", "MiB", "GiB", "TiB", "PiB", "EiB"))
    unit = "B"
    # Not 1024: 1023.96 would be shown as 1024.0.
    while value >= 1023.95 and unit != "EiB":
        value, unit = value / 1024, next(units)
    return f"{value:.1f} {unit}"


def default_store_path(data_home: Path) -> Path:
    """The embedded default store, below the user's data folder ($XDG_DATA_HOME)."""
    return data_home / "fsd" / "store"


def default_cache_path(cache_home: Path, store_id: str) -> Path:
    """The cache of one store, below the user's cache folder ($XDG_CACHE_HOME). `store_id` is from the store's marker:
    one place reached by two URLs has one cache, and a place made anew has another."""
    return cache_home / "fsd" / store_id


@dataclass(frozen=True)
class _Source:
    """Where a value came from, for messages and for `~`."""

    path: Path
    home: Path

    def wrong(self, key: str, value: object, expected: str) -> UsageError:
        return UsageError(f"{self.path}: {key} must be {expected}, not {value!r}")

    def unknown(self, key: str, known: Iterable[str], where: str = "") -> UsageError:
        known = list(known)
        hint = near_misses(key, known) or f"known are: {', '.join(known)}"
        return UsageError(f"{self.path}: unknown key {key!r}{where}", hint=hint)


def _merge(config: Config, table: Mapping[str, object], source: _Source) -> tuple[Config, list[UsageError]]:
    """`config` with what is right in `table`, and everything that is wrong there."""
    problems: list[UsageError] = []
    origins = dict(config.origins)
    for key, value in _flat(table):
        try:
            config = _KEYS[key](config, value, source) if key in _KEYS else _set_limit(config, key, value, source)
            origins[f"{_LIMITS}cache_bytes" if key == "cache_size" else key] = source.path
        except UsageError as error:
            problems.append(error)
    limits = table.get("limits")
    if "cache_size" in table and isinstance(limits, dict) and "cache_bytes" in limits:
        problems.append(UsageError(f"{source.path}: cache_size and limits.cache_bytes are the same; keep one of them"))
    return replace(config, origins=origins), problems


def _flat(table: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """The keys and values, each limit for itself as `limits.NAME`."""
    for key, value in table.items():
        if key == "limits" and isinstance(value, dict):
            yield from ((f"{_LIMITS}{name}", limit) for name, limit in value.items())
        else:
            yield key, value


def _set_store(config: Config, value: object, source: _Source) -> Config:
    expected = "a URL, or a path that starts with / or ~/"
    if not isinstance(value, str):
        raise source.wrong("store", value, expected)
    store = value if "://" in value else str(_path("store", value, source, expected))
    return replace(config, store=store)


def _set_mountpoint(config: Config, value: object, source: _Source) -> Config:
    return replace(config, mountpoint=_path("mountpoint", value, source, "a path that starts with / or ~/"))


def _set_allow_other(config: Config, value: object, source: _Source) -> Config:
    if not isinstance(value, bool):
        raise source.wrong("allow_other", value, "true or false")
    return replace(config, allow_other=value)


def _set_log_format(config: Config, value: object, source: _Source) -> Config:
    return replace(config, log_format=_choice("log_format", value, source, LOG_FORMATS))


def _set_log_level(config: Config, value: object, source: _Source) -> Config:
    return replace(config, log_level=_choice("log_level", value, source, LOG_LEVELS))


def _set_metrics(config: Config, value: object, source: _Source) -> Config:
    match = _ADDRESS.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match[2]) > _MAX_PORT:
        raise source.wrong("metrics", value, "an address and a port, such as 127.0.0.1:9469 or [::1]:9469")
    return replace(config, metrics=(match[1].strip("[]"), int(match[2])))


def _set_cache_dir(config: Config, value: object, source: _Source) -> Config:
    return replace(config, cache_dir=_path("cache_dir", value, source, "a path that starts with / or ~/"))


def _set_cache_size(config: Config, value: object, source: _Source) -> Config:
    return replace(config, limits=replace(config.limits, cache_bytes=_size("cache_size", value, source)))


def _set_limit(config: Config, key: str, value: object, source: _Source) -> Config:
    """A limit; whatever else a file has is unknown."""
    if not key.startswith(_LIMITS):
        raise source.unknown(key, _KEYS)
    name = key.removeprefix(_LIMITS)
    known = {each.name: each.type for each in fields(Limits)}
    if name not in known:
        raise source.unknown(name, known, " in [limits]")
    checked: int | float
    if name.endswith("_bytes"):
        checked = _size(name, value, source)
    elif known[name] in (int, "int"):
        if type(value) is not int or value < 1:
            raise source.wrong(name, value, "a whole number, at least 1")
        checked = value
    else:
        if type(value) not in (int, float) or not 0 <= value < math.inf:  # type: ignore[operator]  # one of them
            raise source.wrong(name, value, "a number, not negative")
        checked = float(value)  # type: ignore[arg-type]
    return replace(config, limits=replace(config.limits, **{name: checked}))  # type: ignore[arg-type]  # checked above


def _no_table(_: Config, value: object, source: _Source) -> Config:
    raise source.wrong("limits", value, "a table")


_LIMITS = "limits."

_KEYS: dict[str, Callable[[Config, object, _Source], Config]] = {
    "store": _set_store,
    "cache_dir": _set_cache_dir,
    "cache_size": _set_cache_size,
    "limits": _no_table,
    "mountpoint": _set_mountpoint,
    "allow_other": _set_allow_other,
    "log_format": _set_log_format,
    "log_level": _set_log_level,
    "metrics": _set_metrics,
}


def _size(key: str, value: object, source: _Source) -> int:
    if isinstance(value, str):
        try:
            return parse_size(value)
        except UsageError as error:
            raise UsageError(f"{source.path}: {key}: {error.message}", hint=error.hint) from None
    if type(value) is not int or not 0 <= value <= _MAX_SIZE:
        raise source.wrong(key, value, 'bytes: a whole number, or a text such as "100G"')
    return value


def _choice(key: str, value: object, source: _Source, choices: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in choices:
        raise source.wrong(key, value, f"one of {', '.join(choices)}")
    return value


def _path(key: str, value: object, source: _Source, expected: str) -> Path:
    """A file does not know from where it will be read: relative paths would mean another place each time."""
    if isinstance(value, str):
        if value == "~" or value.startswith("~/"):
            return source.home / value[2:]
        if value.startswith("/"):
            return Path(value)
    raise source.wrong(key, value, expected)
