"""Content-defined chunking: FastCDC (Xia et al., 2020, "The Design of Fast Content Defined Chunking"), by pyfastcdc.

Where a chunk ends depends only on the bytes near its end, so an insertion changes the chunks around it and no others.
The parameters are a store's default for its publishers; readers never need them. Publishers who cut alike share chunks,
so the algorithm's own constants are part of the format: gear table of seed 0, a least length of a quarter of the
average, a greatest of four times the average, normalisation level 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pyfastcdc import FastCDC

from fsd.errors import FsdError, UsageError
from fsd.format.limits import MAX_CHUNK_BYTES
from fsd.ids import Buffer

_NORMALISATION: Final = 2
"""Keeps lengths nearer to the average than level 1 does: a tenth less to store after scattered insertions."""


@dataclass(frozen=True, slots=True)
class ChunkerParams:
    """Sizes in bytes."""

    average: int = 32 * 1024
    """A chunk is a quarter of this to four times this long; the mean that results is some 37 KiB."""
    whole_file: int = 128 * 1024
    """A file up to this size is one chunk."""

    def __post_init__(self) -> None:
        if not (1024 <= self.average <= MAX_CHUNK_BYTES // 16 and 0 <= self.whole_file <= MAX_CHUNK_BYTES):
            raise UsageError(
                f"chunks of {self.average} bytes on average, whole files up to {self.whole_file}",
                hint=f"the average may be 1024 to {MAX_CHUNK_BYTES // 16}, whole files up to {MAX_CHUNK_BYTES}",
            )

    @property
    def maximum(self) -> int:
        """The longest chunk."""
        return max(4 * self.average, self.whole_file)


class Chunker:
    """Cuts buffers. Not for use by two threads at once."""

    def __init__(self, params: ChunkerParams) -> None:
        if not FastCDC.__module__.startswith("pyfastcdc.cy"):
            raise FsdError(
                "pyfastcdc has no compiled module here, and is a hundred times too slow without",
                hint="reinstall it where gcc and the Python headers are: pip install --force-reinstall pyfastcdc",
            )
        self.params = params
        self._cdc = FastCDC(
            params.average,
            min_size=params.average // 4,
            max_size=4 * params.average,
            normalized_chunking=_NORMALISATION,
        )

    def cut(self, data: Buffer, *, last: bool) -> list[int]:
        """Lengths of the chunks of `data`, in order. Unless `last`, what follows the last sure cut is left over.

        A caller that reads on puts the left-over bytes before what it reads next, and gets the same chunks as if it had
        cut everything at once.
        """
        lengths = [chunk.length for chunk in self._cdc.cut_buf(data)]
        if not last and lengths:
            # The final chunk ended where the data did, unless it could not have been longer anyway.
            lengths.pop()
        return lengths
