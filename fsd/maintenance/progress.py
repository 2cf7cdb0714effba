"""What goes over a whole store says how far it got."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Who is told."""

    def phase(self, name: str) -> None:
        """What is going on from now on."""

    def expect(self, size_bytes: int) -> None:
        """So much more will be read of packs."""

    def advance(self, objects: int, size_bytes: int = 0) -> None:
        """More is done."""
