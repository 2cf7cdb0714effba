"""`.fsd.toml`, at the top of a Git work tree: where the pins' store is. Committed, so it holds nothing of one person.

    store = "gs://bucket/prefix"        # or file:///path, or a path that starts with /
    mountpoint = "/fsd"                 # what pins begin with; this is the default

    [follow]                            # pins that follow another branch than main
    "models/base" = "experimental"

Owns the file's format, and changes no line of it but those that it has to. Cheap to import.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from fsd.errors import FsdError, NotFoundError, UsageError, near_misses
from fsd.format.keys import is_ref_name

FILE_NAME = ".fsd.toml"

DEFAULT_MOUNTPOINT = "/fsd"

DEFAULT_BRANCH = "main"
"""What a pin follows that is not in [follow]."""

MAX_BYTES = 1 << 20
"""Of a file with a line for each pin. What is larger is something else."""

_FOLLOW = "follow"

_HEADER = re.compile(r"\s*\[")
"""A line that starts a table."""

_FOLLOW_HEADER = re.compile(r"\s*\[\s*follow\s*\]\s*(#.*)?$")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the file says."""

    store: str
    """As `open_store` takes it, never relative."""
    mountpoint: str = DEFAULT_MOUNTPOINT
    """An absolute path without a slash at its end."""
    follow: Mapping[str, str] = field(default_factory=dict)
    """Branch by link, relative to the file's folder."""

    def is_store(self, url: str) -> bool:
        """Whether `url`, such as a mount's, names the same store: a folder can be written in several ways."""
        return _canonical(url) == _canonical(self.store)


def _canonical(url: str) -> str:
    scheme, mark, rest = url.partition("://")
    if mark and scheme.lower() != "file":
        return url.rstrip("/")
    # After file:// the name of this machine may come.
    path = unquote(rest[max(rest.find("/"), 0) :]) if mark else url
    return os.path.normpath(path)


def find(top: Path) -> Manifest | None:
    """The manifest of the work tree at `top`; None if it has none. Raises UsageError for what is wrong in it."""
    path = top / FILE_NAME
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FsdError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise UsageError(f"{path} is longer than {MAX_BYTES} bytes")
    return _parsed(path, data)


def load(top: Path) -> Manifest:
    """The same; NotFoundError if there is none."""
    manifest = find(top)
    if manifest is None:
        raise NotFoundError(f"there is no {FILE_NAME} in {top}", hint="'fsd pin LINK REPO/REV' makes it, with a pin")
    return manifest


def create(top: Path, manifest: Manifest) -> None:
    """Write a new file; FsdError if there is one, or it cannot be written."""
    checked = _check_store(manifest.store, top / FILE_NAME)
    lines = ["# The store that the pins of this work tree lead to: 'fsd up' mounts it.", f"store = {_quoted(checked)}"]
    if manifest.mountpoint != DEFAULT_MOUNTPOINT:
        lines.append(f"mountpoint = {_quoted(manifest.mountpoint)}")
    try:
        with (top / FILE_NAME).open("x", encoding="utf-8") as file:
            file.write("\n".join([*lines, ""]))
    except OSError as error:
        raise FsdError(f"cannot write {top / FILE_NAME}: {error.strerror}") from error


def set_followed(top: Path, link: str, branch: str | None) -> bool:
    """Let the pin `link` follow `branch`; None takes its line away. Whether the file had to be changed.

    The file is replaced in one step. Raises UsageError where it is written in a way that takes a person to change.
    """
    path = top / FILE_NAME
    manifest = load(top)
    if manifest.follow.get(link) == branch:
        return False
    if branch is not None and not _is_text(link):
        raise UsageError(f"{link!r} is not UTF-8, so {FILE_NAME} cannot name it", hint="use a name that is plain text")
    wanted = {name: followed for name, followed in manifest.follow.items() if name != link}
    if branch is not None:
        wanted[link] = branch
    changed = _with_follow(path.read_text("utf-8"), link, branch)
    try:
        is_right = _parsed(path, changed.encode()) == replace(manifest, follow=wanted)
    except UsageError:
        is_right = False
    if not is_right:
        what = f"write {_quoted(link)} = {_quoted(branch)}" if branch is not None else f"take {_quoted(link)} out"
        raise UsageError(f"{path}: [{_FOLLOW}] is written in a way that only you can change", hint=f"{what} there")
    _replace(path, changed)
    return True


def _with_follow(text: str, link: str, branch: str | None) -> str:
    """`text` with that link's line in [follow] replaced, added or left out. Looks at lines, not at their meaning."""
    # Not splitlines, which would also cut where a comment holds some rarer kind of line end.
    lines = text.removesuffix("\n").split("\n")
    start = next((number for number, line in enumerate(lines) if _FOLLOW_HEADER.match(line)), None)
    added = [] if branch is None else [f"{_quoted(link)} = {_quoted(branch)}"]
    if start is None:
        return "\n".join([*lines, *(["", f"[{_FOLLOW}]", *added] if added else []), ""])
    end = next((number for number in range(start + 1, len(lines)) if _HEADER.match(lines[number])), len(lines))
    body = [line for line in lines[start + 1 : end] if link not in _keys(line)]
    while body and not body[-1].strip():
        body.pop()
    gap = [""] if end < len(lines) else []
    return "\n".join([*lines[: start + 1], *body, *added, *gap, *lines[end:], ""])


def _keys(line: str) -> Iterable[str]:
    try:
        return tomllib.loads(line).keys()
    except tomllib.TOMLDecodeError:
        return ()


def _is_text(link: str) -> bool:
    try:
        link.encode()
    except UnicodeEncodeError:
        return False
    return True


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, "utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise FsdError(f"cannot write {path}: {error.strerror}") from error


def _quoted(text: str) -> str:
    """A TOML basic string: its escapes are those of JSON, but that DEL is to be escaped too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _parsed(path: Path, data: bytes) -> Manifest:
    try:
        table: dict[str, Any] = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from None
    for key in table:
        if key not in _KEYS:
            hint = near_misses(key, _KEYS) or f"known are: {', '.join(_KEYS)}"
            raise UsageError(f"{path}: unknown key {key!r}", hint=hint)
    if "store" not in table:
        raise UsageError(f"{path} names no store", hint='write: store = "gs://bucket/prefix"')
    return Manifest(**{key: _KEYS[key](value, path) for key, value in table.items()})


def _check_store(value: object, path: Path) -> str:
    if not isinstance(value, str) or not (value.startswith("/") or "://" in value):
        # A relative path would mean another folder in each work tree, ~ another in each home.
        raise UsageError(f"{path}: store must be a URL, or a path that starts with /, not {value!r}")
    if "://" in value:
        try:
            parts = urlsplit(value)
        except ValueError as error:
            raise UsageError(f"{path}: store is no URL: {error}") from None
        if "@" in parts.netloc or parts.query or parts.fragment:
            # The value is not shown: it may be a secret.
            raise UsageError(
                f"{path}: the store's URL holds a user, a password or a query, and everybody reads this file",
                hint="write it without; credentials belong into the environment of each person",
            )
    return value


def _check_mountpoint(value: object, path: Path) -> str:
    if not isinstance(value, str) or not value.startswith("/") or os.path.normpath(value) in ("/", "//"):
        raise UsageError(f"{path}: mountpoint must be a path that starts with /, not {value!r}")
    return os.path.normpath(value)


def _check_follow(value: object, path: Path) -> Mapping[str, str]:
    if not isinstance(value, dict):
        raise UsageError(f"{path}: {_FOLLOW} must be a table, not {value!r}")
    for link, branch in value.items():
        if not isinstance(branch, str) or not is_ref_name(branch):
            raise UsageError(f"{path}: {link!r} in [{_FOLLOW}] must be a branch's name, not {branch!r}")
    return dict(value)


_KEYS: Mapping[str, Callable[[object, Path], Any]] = {
    "store": _check_store,
    "mountpoint": _check_mountpoint,
    _FOLLOW: _check_follow,
}
