"""What stores said of themselves, remembered, so that one that is out of reach can be mounted: its cache has the rest.

A file a store's URL, with the marker as the store has it. It is a hint: whenever the store can be reached it is asked.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import trio

from fsd.errors import CorruptDataError, StorePermissionError, StoreUnreachableError
from fsd.format.marker import StoreMarker, encode_marker, parse_marker
from fsd.ids import content_id
from fsd.repo.repository import read_marker
from fsd.stores.base import Store

log = logging.getLogger(__name__)

_NAME_DIGITS = 16


class KnownMarkers:
    """Those in one folder, which need not be there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def read(self, store: Store, *, wait_s: float) -> StoreMarker:
        """The marker of a store; the one remembered if the store cannot be reached, or not within `wait_s`.

        Raises as `read_marker`; a store that refuses us is not replaced by what we remember of it.
        """
        known = await trio.to_thread.run_sync(self._recall, store.url)
        if known is None:
            return await read_marker(store)
        why = f"no answer within {wait_s:g} s"
        try:
            with trio.move_on_after(wait_s):
                return await read_marker(store)
        except StorePermissionError:
            raise
        except StoreUnreachableError as error:
            why = error.message
        log.warning("%s cannot be reached, so what is mounted is what is known of it: %s", store.url, why)
        known.check_readable(store.url)
        return known

    async def remember(self, store: Store, marker: StoreMarker) -> None:
        """Keep a marker for the next time. That it cannot be kept is no error."""
        try:
            await trio.to_thread.run_sync(self._write, store.url, encode_marker(marker))
        except OSError as error:
            log.info("the store's marker is not remembered: %s", error)

    def _recall(self, url: str) -> StoreMarker | None:
        path = self._path(url)
        try:
            return parse_marker(path.read_bytes(), str(path))
        except (OSError, CorruptDataError):
            return None

    def _write(self, url: str, data: bytes) -> None:
        path = self._path(url)
        try:
            if path.read_bytes() == data:
                return
        except OSError:
            pass
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_bytes(data)
        temporary.rename(path)

    def _path(self, url: str) -> Path:
        return self._folder / f"marker-{content_id(url.encode()).hex()[:_NAME_DIGITS]}"
