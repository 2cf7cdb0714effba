"""Which of some files of a work tree are read while a command runs: the kernel tells (inotify).

For what lies there that is no code and that no view observes: plain files that other steps made. Told is reading, by
whichever process; that a file is there, and how large it is, nobody tells. What cannot be watched counts as read.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from struct import Struct
from typing import Self

MAX_WATCHED = 4096
"""Files, of all paths together: each takes a kilobyte in the kernel."""

_IN_ACCESS = 0x1
_IN_CLOSE_NOWRITE = 0x10
_IS_READ = _IN_ACCESS | _IN_CLOSE_NOWRITE
"""Of what is mapped into memory no reading is told, but that it was opened for nothing else."""
_IN_Q_OVERFLOW = 0x4000
_IN_DONT_FOLLOW = 0x02000000
_EVENT = Struct("iIII")
_READ_BYTES = 1 << 16


class Reading:
    """See the module. Made by `watched`."""

    def __init__(self) -> None:
        self._read: set[str] = set()
        self._by_watch: dict[int, set[str]] = {}
        self._descriptor: int | None = None

    @classmethod
    @contextmanager
    def watched(cls, places: Mapping[str, Path]) -> Iterator[Self]:
        """Watch what is at some places, files and folders, each known by a name."""
        reading = cls()
        try:
            if places:
                reading._watch(places)
            yield reading
        finally:
            if reading._descriptor is not None:
                os.close(reading._descriptor)

    def names(self) -> tuple[str, ...]:
        """Those that were read by now. Does not wait."""
        if self._descriptor is not None:
            self._take_events(self._descriptor)
        return tuple(sorted(self._read))

    def _watch(self, places: Mapping[str, Path]) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if descriptor < 0:
            self._read.update(places)
            return
        self._descriptor = descriptor
        for name, place in places.items():
            for path in _files(place):
                number = -1
                if len(self._by_watch) < MAX_WATCHED:
                    number = libc.inotify_add_watch(descriptor, os.fsencode(path), _IS_READ | _IN_DONT_FOLLOW)
                if number < 0:
                    self._read.add(name)
                    break
                # One file may be at several places.
                self._by_watch.setdefault(number, set()).add(name)

    def _take_events(self, descriptor: int) -> None:
        while True:
            try:
                data = os.read(descriptor, _READ_BYTES)
            except BlockingIOError:
                return
            at = 0
            while at < len(data):
                number, mask, _, length = _EVENT.unpack_from(data, at)
                at += _EVENT.size + length
                if mask & _IN_Q_OVERFLOW:
                    self._read.update(*self._by_watch.values())
                elif mask & _IS_READ:
                    self._read.update(self._by_watch.get(number, ()))


def _files(place: Path) -> Iterator[str]:
    """The file, or all files and folders below. (Of a folder it is told that it is listed.)"""
    yield os.fspath(place)
    if place.is_dir() and not place.is_symlink():
        for folder, folders, names in os.walk(place):
            yield from (os.path.join(folder, name) for name in (*folders, *names))
