"""The composition root of a mount: store, cache, repositories, vfs and the kernel, opened in that order and closed in
the other, whatever ended it: an unmount, a signal, an error.

Nobody here touches the mount itself but for one `stat` in a thread: its answer says that the mount is ready. The thread
that runs trio answers the kernel, so it must never ask.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import trio

from fsd.cache.cache import Cache
from fsd.clock import now_us
from fsd.config import default_cache_path
from fsd.daemon import control, lifecycle
from fsd.daemon.lifecycle import ReadyPipe
from fsd.daemon.markers import KnownMarkers
from fsd.daemon.notify import Notifier
from fsd.daemon.service import Reloader, Stopper, describe, give_signs_of_life, tell_status
from fsd.daemon.settings import MountSettings
from fsd.errors import FsdError, StoreUnreachableError
from fsd.format.marker import StoreMarker
from fsd.fuse import interpose
from fsd.fuse.adapter import Operations
from fsd.fuse.session import Session, mounted
from fsd.limits import Limits
from fsd.repo.objects import StoreLoader
from fsd.repo.packs import PackReader
from fsd.repo.refs import list_repositories
from fsd.repo.repository import open_repositories
from fsd.stores.base import Store
from fsd.stores.open import local_path, open_store
from fsd.stores.retry import single_attempts
from fsd.vfs.vfs import Vfs

log = logging.getLogger(__name__)

_LISTING_WAIT_S = 0.1
"""A listing of repositories mostly takes no longer than the marker; one of many refs is not waited for."""

KNOWN_REFS = "refs.json"
"""In the cache's folder (`fsd.vfs.refmemory`)."""


async def serve(settings: MountSettings, ready: ReadyPipe, notifier: Notifier) -> None:
    """Mount and serve until somebody unmounts, or a signal ends it (`service`); then unmount and close everything.

    Tells `ready` and `notifier` when the mount answers. Raises FsdError for what cannot be mounted.
    """
    lifecycle.check_fuse()
    about = {"pid": os.getpid(), "mountpoint": str(settings.mountpoint), "started_us": now_us()}
    with (
        ExitStack() as until_mounted,
        trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as ends,
        trio.open_signal_receiver(signal.SIGHUP) as reloads,
    ):
        until_mounted.enter_context(lifecycle.prepared(settings.mountpoint))
        async with trio.open_nursery() as nursery:
            stopper = Stopper(settings.mountpoint, settings.limits, notifier, nursery.cancel_scope)
            nursery.start_soon(stopper.run, ends, nursery)
            async with _opened(settings, about) as opened:
                options = lifecycle.mount_options(
                    opened.store.url, allow_other=settings.allow_other, noexec=settings.noexec
                )
                with mounted(
                    Operations(opened.vfs),
                    settings.mountpoint,
                    options,
                    settings.limits,
                    interposed=settings.interposed,
                ) as session:
                    until_mounted.close()
                    stopper.is_mounted = True
                    nursery.start_soon(_control, opened.folder, about, opened.vfs)
                    if settings.metrics is not None:
                        nursery.start_soon(_metrics, settings.metrics, opened.vfs)
                    nursery.start_soon(Reloader(settings, opened.cache, notifier).run, reloads)
                    nursery.start_soon(_announce, settings, about, session, ready, notifier, opened.cache)
                    await session.serve()
                    log.info("unmounted")
                    notifier.stopping()
            nursery.cancel_scope.cancel()


class _Opened(NamedTuple):
    """Everything below the kernel."""

    store: Store
    folder: Path
    """The cache's."""
    cache: Cache
    vfs: Vfs


@asynccontextmanager
async def _opened(settings: MountSettings, about: dict[str, Any]) -> AsyncIterator[_Opened]:
    limits = settings.limits
    async with AsyncExitStack() as stack:
        store = await _open_store(settings.store, limits)
        stack.push_async_callback(_close, store)
        markers = KnownMarkers(settings.cache or settings.cache_home / "fsd")
        marker, listed = await _ask_first(store, markers, limits.known_store_wait_s)
        folder = settings.cache or default_cache_path(settings.cache_home, marker.id)
        purpose = f"the mount at {settings.mountpoint}"
        # The cache's fetcher tries again by rules of its own.
        packs = PackReader(single_attempts(store))
        cache = await stack.enter_async_context(Cache.open(folder, packs, limits, purpose=purpose))
        await markers.remember(store, marker)
        loader = cache.loader(StoreLoader(store))
        repositories = await open_repositories(store, limits, marker=marker, loader=loader)
        known_refs = folder / KNOWN_REFS
        opening = Vfs.open(repositories, cache, limits, about=about, known_refs=known_refs, known_repositories=listed)
        yield _Opened(store, folder, cache, await stack.enter_async_context(opening))


async def _open_store(url: str, limits: Limits) -> Store:
    """The store. A folder is looked for in a thread: it may lie in a file system that hangs. Raises as `open_store`."""
    if local_path(url) is None:
        return open_store(url, limits)
    with trio.move_on_after(limits.store_timeout_s):
        return await trio.to_thread.run_sync(open_store, url, limits, abandon_on_cancel=True)
    raise StoreUnreachableError(f"{url} did not answer within {limits.store_timeout_s:g} s", hint="is its disk well?")


async def _ask_first(store: Store, markers: KnownMarkers, wait_s: float) -> tuple[StoreMarker, Sequence[str] | None]:
    """The marker, and the repositories if they come along with it: whoever looks one up first waits for neither."""
    listed: list[Sequence[str]] = []
    failures: list[FsdError] = []
    done = trio.Event()

    async def list_beside() -> None:
        with suppress(FsdError):  # whoever asks for a repository will be told
            listed.append(await list_repositories(store))
        done.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(list_beside)
        try:
            marker = await markers.read(store, wait_s=wait_s)
            with trio.move_on_after(_LISTING_WAIT_S):
                await done.wait()
        except FsdError as error:
            failures.append(error)  # to leave the nursery as it is
        nursery.cancel_scope.cancel()
    if failures:
        raise failures[0]
    return marker, listed[0] if listed else None


async def _control(folder: Path, about: dict[str, Any], vfs: Vfs) -> None:
    """Serve the control socket. Where there can be none, the mount does without."""
    try:
        with control.listening(folder) as listener:
            about["control"] = str(folder / control.SOCKET_NAME)
            await control.serve(listener, vfs)
            await trio.sleep_forever()
    except OSError as error:
        log.warning("there is no control socket in %s: %s", folder, error.strerror)


async def _metrics(address: tuple[str, int], vfs: Vfs) -> None:
    """Serve metrics to whoever can reach the address. Where that cannot be, the mount does without."""
    try:
        with control.listening_for_metrics(address) as listener:
            await control.serve(listener, vfs, only_metrics=True)
            await trio.sleep_forever()
    except OSError as error:
        log.warning("metrics cannot be served at %s port %d: %s", *address, error.strerror)


async def _close(store: Store) -> None:
    with trio.CancelScope(shield=True):
        await store.aclose()


async def _announce(
    settings: MountSettings,
    about: dict[str, Any],
    session: Session,
    ready: ReadyPipe,
    notifier: Notifier,
    cache: Cache,
) -> None:
    """Once the mount answers, tune it and tell who waits for it; then go on telling how it is."""
    device = (await trio.to_thread.run_sync(os.stat, session.mountpoint, abandon_on_cancel=True)).st_dev
    name = f"{os.major(device)}:{os.minor(device)}"
    limits = settings.limits
    lifecycle.raise_read_ahead(name, limits.kernel_read_ahead_bytes)
    state = interpose.state()
    if interpose.State.SESSION not in state:
        lifecycle.raise_max_background(name, limits.max_background)
    about["opens_files"] = interpose.State.NO_OPEN not in state
    log.info("%s is mounted at %s", settings.store, settings.mountpoint)
    ready.ready()
    notifier.ready(describe(settings, cache))
    if not notifier.is_heard:
        return
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell_status, notifier, settings, cache)
        if settings.watchdog_s is not None:
            nursery.start_soon(give_signs_of_life, notifier, settings.watchdog_s)
