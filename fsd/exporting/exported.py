"""What an export comes to, and whom it tells how far it is."""

from __future__ import annotations

from dataclasses import dataclass, field

from fsd.checkout.checkout import Progress
from fsd.exporting.ordered import Part
from fsd.format.model import Kind


@dataclass(slots=True)
class Exported:
    """What came of it."""

    files: int = 0
    bytes: int = 0
    """Of all files."""
    warnings: list[str] = field(default_factory=list)
    """What the place could not take."""

    def note(self, part: Part, progress: Progress | None) -> None:
        """A part is there."""
        size = sum(map(len, part.content))
        ends = part.is_last and part.entry.kind is Kind.FILE
        self.files += ends
        self.bytes += size
        if progress is not None:
            progress.advance(size, items=int(ends))
