"""Progress over several revisions, each of which says anew how much is in it."""

from __future__ import annotations

from fsd.publish.progress import Progress


class SummedProgress:
    """A `fsd.publish.progress.Progress`: what is expected comes on top of what is done."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._entries = 0
        self._bytes = 0

    @property
    def wants_total(self) -> bool:
        """As whoever watches."""
        return self._progress.wants_total

    def phase(self, name: str) -> None:
        """Handed on."""
        self._progress.phase(name)

    def expect(self, entries: int, size_bytes: int) -> None:
        """So much more is to come."""
        self._progress.expect(self._entries + entries, self._bytes + size_bytes)

    def unchanged(self, entries: int, size_bytes: int) -> None:
        """Handed on, and summed."""
        self._entries += entries
        self._bytes += size_bytes
        self._progress.unchanged(entries, size_bytes)

    def read(self, files: int, size_bytes: int) -> None:
        """Handed on, and summed."""
        self._entries += files
        self._bytes += size_bytes
        self._progress.read(files, size_bytes)

    def stored(self, stored_bytes: int) -> None:
        """Handed on."""
        self._progress.stored(stored_bytes)
