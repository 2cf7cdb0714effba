"""What a store's `list` hands out: an async iterator over batches, of which nothing is left over when it is left early.

An async generator would not do: one that is abandoned in the middle (`break`, an error) must be closed by hand, and
trio complains where that was forgotten.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from fsd.stores.base import ObjectInfo


class Listing:
    """Asks `next_batch` for more when the last batch is used up; an empty one is the end."""

    def __init__(self, next_batch: Callable[[], Awaitable[Sequence[ObjectInfo]]]) -> None:
        self._next_batch = next_batch
        self._batch: Sequence[ObjectInfo] = ()
        self._position = 0

    def __aiter__(self) -> Listing:
        return self

    async def __anext__(self) -> ObjectInfo:
        if self._position == len(self._batch):
            self._batch = await self._next_batch()
            self._position = 0
            if not self._batch:
                raise StopAsyncIteration
        self._position += 1
        return self._batch[self._position - 1]
