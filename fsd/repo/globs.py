"""Glob patterns over paths, as rules of subsets use them.

    *        any characters but '/'                 ?        one character but '/'
    **       any characters, '/' too                [a-z]    one of these; [!a-z] any other; never '/'
    **/      nothing, or any directories            \\x       the character x itself

A pattern without a '/' is matched with the *name*, at any depth: `*.json`, `README*`. Any other is matched with the
whole path from the top: `train/**`, `*/labels.csv`, `/top-only.txt` (the '/' in front only says that it is a path).
One that ends in '/' means everything below that directory: `train/` is `train/**`. Upper and lower case differ.

Paths are bytes. They are matched as UTF-8, and a byte that is none counts as one character that `*` and `?` match and
that a pattern given on a command line can name (Python's "surrogateescape").
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from fsd.errors import UsageError

_ANY = "[^/]"


class Globs:
    """Some patterns: a path matches if one of them does."""

    def __init__(self, patterns: Sequence[str]) -> None:
        """Raises UsageError for a malformed pattern."""
        names = [_translate(pattern) for pattern in patterns if "/" not in pattern]
        paths = [_translate(pattern) for pattern in patterns if "/" in pattern]
        self._names = _compile(names)
        self._paths = _compile(paths)

    def match(self, directory: bytes, name: bytes) -> bool:
        """Whether the path of `name` in `directory` matches."""
        if self._names is not None and self._names.match(decode_path(name)):
            return True
        if self._paths is None:
            return False
        return self._paths.match(decode_path(directory + b"/" + name if directory else name)) is not None


def decode_path(path: bytes) -> str:
    """A path as text; every path has one, and no two have the same."""
    return path.decode("utf-8", "surrogateescape")


def encode_path(text: str) -> bytes:
    """The path that `decode_path` made `text` of."""
    return text.encode("utf-8", "surrogateescape")


def _compile(expressions: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile(rf"(?s:{'|'.join(expressions)})\Z") if expressions else None


def _translate(pattern: str) -> str:
    """A regular expression for the whole of what `pattern` matches."""
    if not pattern.strip("/"):
        raise UsageError(f"{pattern!r} is not a pattern", hint="write '**' for everything")
    text = pattern.removeprefix("/")
    text = text + "**" if text.endswith("/") else text
    expression, at = "", 0
    while at < len(text):
        part, at = _next_part(pattern, text, at)
        expression += part
    return expression


def _next_part(pattern: str, text: str, at: int) -> tuple[str, int]:
    """The expression for what stands at a position, and the position after it."""
    character = text[at]
    if text.startswith("**/", at) and (at == 0 or text[at - 1] == "/"):
        return "(?:.*/)?", at + 3
    if text.startswith("**", at):
        return ".*", at + 2
    if character == "*":
        return f"{_ANY}*", at + 1
    if character == "?":
        return _ANY, at + 1
    if character == "[":
        return _translate_class(pattern, text, at)
    if character == "\\":
        if at + 1 == len(text):
            raise UsageError(f"pattern {pattern!r} ends in a backslash", hint="write two for one")
        return re.escape(text[at + 1]), at + 2
    return re.escape(character), at + 1


def _translate_class(pattern: str, text: str, at: int) -> tuple[str, int]:
    """For what `[` at a position starts. A `]` that comes first stands for itself."""
    start = at + 2 if text.startswith("[!", at) else at + 1
    end = text.find("]", start + 1)
    if end < 0:
        raise UsageError(f"pattern {pattern!r} has a '[' without its ']'", hint="write '\\[' for the character itself")
    members, at = "", start
    while at < end:
        first = last = text[at]
        if text[at + 1] == "-" and at + 2 < end:
            last = text[at + 2]
            at += 2
        if last < first:
            raise UsageError(f"pattern {pattern!r} has a range from {first!r} down to {last!r}")
        members += f"{re.escape(first)}-{re.escape(last)}"
        at += 1
    return f"(?!/)[{'^' if text[start - 1] == '!' else ''}{members}]", end + 1
