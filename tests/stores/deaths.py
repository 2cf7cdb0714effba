"""A program that dies by SIGKILL before each system call of each kind of write in turn, and in the middle of write(2).

After each death it looks: the object is whole, the old or the new one, and the next write goes through. Prints how
often it died. A process of its own, since it forks: `python -m tests.stores.deaths FOLDER`.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from fsd.stores.folder import Folder, NewFile

OLD, NEW = b"old" * 50_000, b"new" * 70_000
_CALLS = ("open", "write", "utime", "fsync", "mkdir", "link", "rename", "unlink", "close")


def _create(folder: Folder) -> None:
    folder.create("a/b/new", NEW)


def _stream(folder: Folder) -> None:
    new = NewFile(folder)
    new.write(NEW[:100_000])
    new.write(NEW[100_000:])
    new.finish("a/b/new")


def _replace(folder: Folder) -> None:
    folder.replace("a/old", NEW, expected=None)


def _delete(folder: Folder) -> None:
    folder.delete("a/old", expected=None)


_ACTIONS: dict[Callable[[Folder], None], dict[str, set[bytes | None]]] = {
    _create: {"a/b/new": {None, NEW}, "a/old": {OLD}},
    _stream: {"a/b/new": {None, NEW}, "a/old": {OLD}},
    _replace: {"a/b/new": {None}, "a/old": {OLD, NEW}},
    _delete: {"a/b/new": {None}, "a/old": {OLD, None}},
}
"""What may be found after each."""


def _die_at(number: int) -> None:
    """Arrange for this process to die instead of its `number`th system call."""
    left = number

    def deadly(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **keywords: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                if name == "write":
                    call(arguments[0], arguments[1][: len(arguments[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **keywords)

        return wrapped

    for name in _CALLS:
        setattr(os, name, deadly(name, getattr(os, name)))


def _survives(root: Path, unnamed_files: bool, action: Callable[[Folder], None], number: int) -> bool:
    child = os.fork()
    if child == 0:
        _die_at(number)
        action(Folder(root, unnamed_files=unnamed_files))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), status
    return status == 0


def _check(root: Path, unnamed_files: bool, action: Callable[[Folder], None]) -> None:
    folder = Folder(root, unnamed_files=unnamed_files)
    found = {info.key: folder.read(info.key, 0, None).data for info in folder.walk("", "")}
    expected = _ACTIONS[action]
    assert set(found) <= set(expected), found.keys()
    for key, allowed in expected.items():
        assert found.get(key) in allowed, (action, key)
    folder.delete("a/b/new", expected=None)
    folder.create("a/b/new", NEW)
    folder.replace("a/old", OLD, expected=None)


def main() -> None:
    """Die and look until every action comes through."""
    deaths = 0
    for unnamed_files in (True, False):
        for action in _ACTIONS:
            for number in count(1):
                root = Path(sys.argv[1]) / f"{unnamed_files}-{action.__name__}-{number}"
                root.mkdir()
                Folder(root).create("a/old", OLD)
                survived = _survives(root, unnamed_files, action, number)
                _check(root, unnamed_files, action)
                if survived:
                    break
                deaths += 1
    print(deaths)


if __name__ == "__main__":
    main()
