"""From what a program says, its environment and the configuration to an open store."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from fsd.client.reader import ReaderSettings
from fsd.client.store import Store
from fsd.config import parse_size
from fsd.stores.open import local_path
from fsd.surroundings import Surroundings


def open_store(
    url: str | os.PathLike[str] | None = None,
    *,
    cache: str | os.PathLike[str] | None = None,
    cache_size: int | str | None = None,
) -> Store:
    """A store to read versions from and publish to, with no mount.

    `url`: a folder or a URL; by default $FSD_STORE, the one in the configuration, or your own, as for `fsd` itself.
    `cache`: the folder for what was read; by default the one that mounts of this store have, or the next one beside it
    if a daemon or program is using that. `cache_size`: what it may take on disk, in bytes or such as '50G'.

    The place is asked when the store is first used: errors of the network, and that there is no store, come then.
    Raises UsageError for a malformed URL, size or configuration.
    """
    around = Surroundings(os.environ, None if url is None else os.fspath(url))
    settings = reader_settings(around)
    if cache is not None:
        settings = replace(settings, cache=Path(cache).absolute())
    if cache_size is not None:
        size = cache_size if isinstance(cache_size, int) else parse_size(cache_size)
        settings = replace(settings, limits=replace(settings.limits, cache_bytes=size))
    return Store(settings)


def reader_settings(around: Surroundings) -> ReaderSettings:
    """What somebody with these surroundings reads. Raises UsageError for a malformed URL or configuration."""
    settings = around.settings
    folder = local_path(around.store_url)
    return ReaderSettings(
        # A process that takes this over may have another working directory.
        store=around.store_url if folder is None else os.fspath(folder),
        cache=settings.cache_dir,
        cache_home=around.cache_home,
        state=around.state,
        limits=settings.limits,
    )
