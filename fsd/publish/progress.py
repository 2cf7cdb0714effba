"""What a publisher tells whoever watches it. The command line draws a bar from it; tests count with it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called from trio's thread, once for many files: each call may cost microseconds, not more. All are additive
    except `expect` and `phase`."""

    @property
    def wants_total(self) -> bool:
        """Whether the folder should be counted ahead, where nothing else tells how large it is (3 µs an entry)."""

    def phase(self, name: str) -> None:
        """What is going on from now on: look, read, store, commit."""

    def expect(self, entries: int, size_bytes: int) -> None:
        """About so much is in the folder, in all."""

    def unchanged(self, entries: int, size_bytes: int) -> None:
        """More entries were looked at that are no files to be read: directories, symlinks, and unchanged files with so
        many bytes."""

    def read(self, files: int, size_bytes: int) -> None:
        """More files, and so many bytes, were read."""

    def stored(self, stored_bytes: int) -> None:
        """More bytes went into the store."""


class NoProgress:
    """Nobody watches."""

    wants_total = False

    def phase(self, name: str) -> None:
        """Nothing."""

    def expect(self, entries: int, size_bytes: int) -> None:
        """Nothing."""

    def unchanged(self, entries: int, size_bytes: int) -> None:
        """Nothing."""

    def read(self, files: int, size_bytes: int) -> None:
        """Nothing."""

    def stored(self, stored_bytes: int) -> None:
        """Nothing."""
