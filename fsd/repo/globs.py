"""Glob patterns over paths, as rules of subsets use them.

    *        any characters but '/'                 ?        one character but '/'
    **       any characters, '/' too                [a-z]    one of these; [!a-z] any other; never '/'
    **/      nothing, or any directories            \\x       the character x itself

A pattern without a '/' is matched with the *name*, at any depth: `*.json`, `README*`. Any other is matched with the
whole path from the top: `train/**`, `*/labels.csv`, `/top-only.txt` (the '/' in front only says that it is a path).
One that ends in '/' means everything below that directory: `train/` is `train/**`. Upper and lower case differ.

A match takes time that grows with the path's length, and not with a power of it for each `*`: patterns come also from
stores, whose owners may mean harm. See `_expression`.

Paths are bytes. They are matched as UTF-8, and a byte that is none counts as one character that `*` and `?` match and
that a pattern given on a command line can name (Python's "surrogateescape").
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum

from fsd.errors import UsageError

MAX_CHARACTERS = 64 * 1024
"""Of all patterns of a rule together: to make them ready takes up to half a second, for which a mount would wait."""

_REMEMBERED_CHARACTERS = 4096
_SHOWN_CHARACTERS = 80

_ANY = "[^/]"


class Globs:
    """Some patterns: a path matches if one of them does."""

    def __init__(self, patterns: Sequence[str]) -> None:
        """Raises UsageError for a malformed pattern, and for more than MAX_CHARACTERS."""
        if sum(map(len, patterns)) > MAX_CHARACTERS:
            raise UsageError("these are too many patterns", hint="give a list of paths instead")
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
    if not expressions:
        return None
    compiled = re.compile(rf"(?s:{'|'.join(expressions)})\Z")
    if len(compiled.pattern) > _REMEMBERED_CHARACTERS:
        re.purge()  # it remembers 512 of them, of a megabyte each
    return compiled


def _shown(pattern: str) -> str:
    return repr(pattern) if len(pattern) <= _SHOWN_CHARACTERS else f"{pattern[:_SHOWN_CHARACTERS]!r}…"


def _translate(pattern: str) -> str:
    """A regular expression for the whole of what `pattern` matches."""
    if not pattern.strip("/"):
        raise UsageError(f"{_shown(pattern)} is not a pattern", hint="write '**' for everything")
    text = pattern.removeprefix("/")
    text = text + "**" if text.endswith("/") else text
    parts: list[str | _Gap] = [""]
    at = 0
    while at < len(text):
        part, at = _next_part(pattern, text, at)
        if isinstance(part, _Gap) and isinstance(parts[-1], _Gap) and _Gap.ANYTHING in (part, parts[-1]):
            parts[-1] = _Gap.ANYTHING
        elif part != parts[-1] or not isinstance(part, _Gap):
            parts.append(part)
    return _expression(parts)


class _Gap(Enum):
    """What is not fixed in its length. The value is the expression for it, and for as little of it as will do."""

    NAME = (f"{_ANY}*", f"{_ANY}*?")
    DIRECTORIES = ("(?:.*/)?", "(?:.*?/)??")
    ANYTHING = (".*", ".*?")


def _expression(parts: Sequence[str | _Gap]) -> str:
    """The expression for fixed parts with gaps in between.

    What follows a gap is looked for where it comes first, and once it is found nowhere else (an atomic group): a later
    place would not help, since what lies between can as well lie in the gap after it. That is not so of the last gap,
    behind which the end has to fit, and of the last that crosses '/', if gaps within a name follow it. These two are
    tried in all lengths; but a name has 255 bytes at most.
    """
    blocks: list[tuple[_Gap | None, list[str]]] = [(None, [""])]
    for part in parts:
        if part is _Gap.NAME:
            blocks[-1][1].append("")
        elif isinstance(part, _Gap):
            blocks.append((part, [""]))
        else:
            blocks[-1][1][-1] += part
    expression = ""
    for gap, pieces in blocks[:-1]:
        block = pieces[0] + _each_behind_a_gap(pieces[1:])
        expression += block if gap is None else f"(?>{gap.value[1]}{block})"
    gap, (first, *others) = blocks[-1]
    last = _Gap.NAME.value[0] + others[-1] if others else ""
    return expression + (gap.value[0] if gap else "") + first + _each_behind_a_gap(others[:-1]) + last


def _each_behind_a_gap(pieces: Sequence[str]) -> str:
    return "".join(f"(?>{_Gap.NAME.value[1]}{piece})" for piece in pieces)


def _next_part(pattern: str, text: str, at: int) -> tuple[str | _Gap, int]:
    """What stands at a position, fixed parts as an expression, and the position after it."""
    character = text[at]
    if text.startswith("**/", at) and (at == 0 or text[at - 1] == "/"):
        return _Gap.DIRECTORIES, at + 3
    if text.startswith("**", at):
        return _Gap.ANYTHING, at + 2
    if character == "*":
        return _Gap.NAME, at + 1
    if character == "?":
        return _ANY, at + 1
    if character == "[":
        return _translate_class(pattern, text, at)
    if character == "\\":
        if at + 1 == len(text):
            raise UsageError(f"pattern {_shown(pattern)} ends in a backslash", hint="write two for one")
        return re.escape(text[at + 1]), at + 2
    return re.escape(character), at + 1


def _translate_class(pattern: str, text: str, at: int) -> tuple[str, int]:
    """For what `[` at a position starts. A `]` that comes first stands for itself."""
    start = at + 2 if text.startswith("[!", at) else at + 1
    end = text.find("]", start + 1)
    if end < 0:
        raise UsageError(
            f"pattern {_shown(pattern)} has a '[' without its ']'", hint="write '\\[' for the character itself"
        )
    members, at = "", start
    while at < end:
        first = last = text[at]
        if text[at + 1] == "-" and at + 2 < end:
            last = text[at + 2]
            at += 2
        if last < first:
            raise UsageError(f"pattern {_shown(pattern)} has a range from {first!r} down to {last!r}")
        members += f"{re.escape(first)}-{re.escape(last)}"
        at += 1
    return f"(?!/)[{'^' if text[start - 1] == '!' else ''}{members}]", end + 1
