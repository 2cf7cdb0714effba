"""The pages of docs/guide as scripts: their `console` blocks are run, in the order of the page, in one shell.

A block holds lines that start with `$ `, continued by lines that start with `> `; what follows is what the command
shows on standard output and standard error. Every command is to succeed (`|| true` and its like say that one will
not). In what is shown

- `…` stands for anything within a line, a line of nothing else for any lines,
- an id (7 or more hex digits) for some id: the same one wherever the page has the same, also in later commands,
- a date, a time of day or a duration for any other,
- blanks for any number of blanks.

Blocks in an HTML comment are run like the others and not seen by readers: they prepare what the page takes for granted.
A page that needs more than fsd's own dependencies says so: `<!-- needs: numpy -->`. One that is about time says when it
was written, `<!-- today: 2026-11-24 -->`: the dates in its commands are moved by the days that have passed.
"""

from __future__ import annotations

import datetime
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_NEEDS = re.compile(r"<!-- needs: (.*?) -->")
_TODAY = re.compile(r"<!-- today: (\S+) -->")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_ID = re.compile(r"\b(?=[0-9a-f]*[0-9])(?=[0-9a-f]*[a-f])[0-9a-f]{7,64}\b")
_ID_DIGITS = 7
"""So many tell the ids of a page apart."""

_MARK = "--- end of a command:"

_ANY = {
    r"\d{4}-\d\d-\d\d": r"\d{4}-\d\d-\d\d",
    r"\d\d:\d\d:\d\d": r"\d\d:\d\d:\d\d",
    r"\b\d+\.\d s\b": r"\d+\.\d s",
    "…": ".*",
    r"\s+": r"\s+",
}
_TOKEN = re.compile("|".join(f"({pattern})" for pattern in [_ID.pattern, *_ANY]))


class Step(NamedTuple):
    """A command of a page, and what it is to show."""

    command: str
    expected: list[str]


def steps_of(page: str) -> Iterator[Step]:
    """The commands of a page. Raises ValueError for a block that is not as the module says."""
    for block in _BLOCK.findall(page):
        step: Step | None = None
        for line in block.splitlines():
            if line.startswith("$ "):
                if step is not None:
                    yield step
                step = Step(line[2:], [])
            elif step is None:
                raise ValueError(f"a block begins with {line!r}, not with a command")
            elif line.startswith("> ") and not step.expected:
                step = Step(f"{step.command}\n{line[2:]}", [])
            else:
                step.expected.append(line)
        if step is not None:
            yield step


def needs_of(page: str) -> list[str]:
    """The modules that a page needs."""
    return [name for names in _NEEDS.findall(page) for name in names.split()]


def brought_up_to_date(page: str) -> str:
    """The page, if it says when it was written, as if it had been written today."""
    written = _TODAY.search(page)
    if written is None:
        return page
    passed = datetime.datetime.now(datetime.UTC).date() - datetime.date.fromisoformat(written[1])
    return _DATE.sub(lambda match: str(datetime.date.fromisoformat(match[0]) + passed), page)


class Ids:
    """Which id each id of the page stands for. A page's id may be longer or shorter in another place."""

    def __init__(self) -> None:
        self._meant: dict[str, str] = {}

    def meant(self, written: str) -> str | None:
        """The id that stands for `written`, as long as it; None if that is not known yet."""
        known = self._meant.get(written[:_ID_DIGITS])
        return known[: len(written)] if known is not None and len(known) >= len(written) else None

    def learn(self, written: str, shown: str) -> bool:
        """Note that `shown` stands for `written`; False if something else does, or it stands for something else."""
        key = written[:_ID_DIGITS]
        known = self._meant.get(key)
        if known is None and any(other.startswith(shown[:_ID_DIGITS]) for other in self._meant.values()):
            return False
        if known is None or (len(shown) > len(known) and shown.startswith(known)):
            self._meant[key] = shown
            return True
        return known.startswith(shown)

    def replaced(self, command: str) -> str:
        """`command` with the ids that the page's stand for."""
        return _ID.sub(lambda match: self.meant(match[0]) or match[0], command)


def differs(expected: Sequence[str], shown: Sequence[str], ids: Ids) -> str:
    """Where `shown` is not what was expected, or ''. Learns the ids."""
    if not expected:
        return f"nothing was to be shown, but {shown[0]!r} was" if shown else ""
    first, *rest = expected
    if first.strip() == "…":
        reasons = [differs(rest, shown[skipped:], ids) for skipped in range(len(shown) + 1)]
        return "" if "" in reasons else reasons[0]
    if not shown:
        return f"{first!r} was to be shown, and nothing was"
    pattern, written = _pattern(first)
    match = re.fullmatch(pattern, shown[0].rstrip())
    if match is None or not all(ids.learn(*pair) for pair in zip(written, match.groups(), strict=True)):
        return f"{first!r} was to be shown, but {shown[0]!r} was"
    return differs(rest, shown[1:], ids)


def _pattern(line: str) -> tuple[str, list[str]]:
    """A pattern with a group for each id of the line, and these ids."""
    parts: list[str] = []
    ids: list[str] = []
    at = 0
    line = line.rstrip()
    for match in _TOKEN.finditer(line):
        parts.append(re.escape(line[at : match.start()]))
        at = match.end()
        if match[1] is not None:
            ids.append(match[1])
            parts.append(rf"([0-9a-f]{{{len(match[1])}}})")
        else:
            parts.append(list(_ANY.values())[(match.lastindex or 0) - 2])
    return "".join([*parts, re.escape(line[at:])]), ids


class Shell:
    """A bash that stays the same from command to command. `stands_for` maps what pages name to what is there."""

    def __init__(self, command: Sequence[str], stands_for: Mapping[str, str], **options: object) -> None:
        self._stands_for = stands_for
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
        )

    def run(self, command: str) -> tuple[int, list[str]]:
        """Exit code of a command, and the lines that it shows."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        for named, there in self._stands_for.items():
            command = command.replace(named, there)
        self._process.stdin.write(f"{{ {command}\n}} 2>&1 </dev/null\nprintf '%s %s\\n' '{_MARK}' $?\n")
        self._process.stdin.flush()
        lines: list[str] = []
        for line in self._process.stdout:
            before, mark, code = line.rpartition(_MARK)
            if mark:
                return int(code), [*lines, *([before] if before else [])]
            for named, there in self._stands_for.items():
                line = line.replace(there, named)
            lines.append(line.removesuffix("\n"))
        raise AssertionError(f"the shell ended in {command!r}: {lines}")

    def close(self) -> None:
        """End the shell, and whatever it started."""
        self._process.kill()
        self._process.communicate()


def run_page(page: str, shell: Shell) -> Iterable[str]:
    """Run a page; one message for each command that did not do as the page says."""
    ids = Ids()
    for step in steps_of(brought_up_to_date(page)):
        code, shown = shell.run(ids.replaced(step.command))
        told = "\n".join(shown)
        if code != 0:
            yield f"$ {step.command}\ngave {code}:\n{told}"
            return  # what follows would only say so again
        reason = differs(step.expected, shown, ids)
        if reason:
            yield f"$ {step.command}\n{reason}. All of it:\n{told}"
