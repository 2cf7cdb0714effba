"""A store behind a web server: what it promises, and what it says of servers that do not do as they should."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from fsd.errors import NotFoundError, StorePermissionError, StoreUnreachableError, UsageError
from fsd.limits import Limits
from fsd.repo.refs import Refs
from fsd.repo.repository import init_store, open_repositories
from fsd.stores.base import ObjectNotFoundError, Store, Version
from fsd.stores.local import LocalStore
from fsd.stores.obstore_http import HttpStore
from integration import nginx
from integration.tls import behind_tls, make_chain
from integration.web_server import WebServer
from tests.contract import test_store, test_store_races
from tests.contract.places import LIMITS as LOCAL_LIMITS
from tests.contract.places import listed
from tests.repo.test_refs import commit, refs_of

LIMITS = Limits(store_timeout_s=20.0, store_connections=16)
IMPATIENT = Limits(store_timeout_s=0.3)

# --- the contract, as far as it is about reading


class Shown(LocalStore):
    """Written as a folder, read through a web server. What a write returns is the version that the server tells."""

    def __init__(self, folder: Path, url: str) -> None:
        super().__init__(folder, LOCAL_LIMITS)
        self.web = HttpStore(url, LIMITS)
        self.get = self.web.get  # type: ignore[method-assign]
        self.get_range = self.web.get_range  # type: ignore[method-assign]
        self.get_tail = self.web.get_tail  # type: ignore[method-assign]
        self.stat = self.web.stat  # type: ignore[method-assign]

    async def put_if_absent(self, key: str, data: Any) -> Version:
        await super().put_if_absent(key, data)
        return (await self.web.stat(key)).version


READING = [
    "test_what_was_put_is_read",
    "test_ranges",
    "test_a_range_past_the_end_is_empty",
    "test_tails",
    "test_a_malformed_key_is_refused",
    "test_impossible_ranges_are_refused",
    "test_readers_see_whole_objects_only",
    "test_the_url_names_the_store",
    "test_closing_twice_is_fine",
]
globals().update({name: {**vars(test_store), **vars(test_store_races)}[name] for name in READING})


class _Place:
    """A folder behind a server; all stores are for the same one."""

    def __init__(self, folder: Path, url: str) -> None:
        self.open: Callable[[], Store] = lambda: Shown(folder, url)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """By nginx, where it is installed."""
    folder = tmp_path_factory.mktemp("served")
    if nginx.is_installed():
        with nginx.Nginx(folder, tmp_path_factory.mktemp("nginx")) as server:
            yield folder, server.url
    else:
        with WebServer(folder) as web:
            yield folder, web.url


@pytest.fixture
def place(served: tuple[Path, str], tmp_path: Path) -> _Place:
    folder, url = served
    (folder / tmp_path.name).mkdir()
    return _Place(folder / tmp_path.name, f"{url}/{tmp_path.name}")


@pytest.fixture
def store(place: _Place) -> Store:
    return place.open()


@pytest.mark.parametrize("key", ["missing", "missing/folder/key", "folder/key.other", "folder/key2"])
async def test_a_missing_object(store: Store, key: str) -> None:
    await store.put_if_absent("folder/key", b"x")
    for call in (store.get(key), store.get_range(key, 0, 1), store.get_tail(key, 1), store.stat(key)):
        with pytest.raises(ObjectNotFoundError):
            await call


# --- refs


@pytest.fixture
def web(tmp_path: Path) -> Iterator[WebServer]:
    (tmp_path / "store").mkdir()
    with WebServer(tmp_path / "store") as server:
        yield server


@pytest.fixture
def written(web: WebServer) -> Refs:
    return refs_of(LocalStore(web.folder, LOCAL_LIMITS))


async def test_refs_are_listed_and_read(web: WebServer, written: Refs) -> None:
    await written.move_branch("data", "main", commit(1), expected=None)
    await written.set_tag("data", "v1", commit(1))
    await written.set_tag("more", "v1", commit(1))
    store = HttpStore(web.url, LIMITS)
    read = refs_of(store)
    assert await read.repositories() == ["data", "more"]
    found = await read.read_all("data")
    assert {name: stored.ref.target for name, stored in found.items()} == {"main": commit(1), "v1": commit(1)}
    # Two moves in one second, of refs of one size: their ETags are the same.
    await written.move_branch("data", "main", commit(2), expected=commit(1))
    await written.set_tag("data", "v1", commit(2), force=True)
    web.requests.clear()
    found = await read.read_all("data")
    assert {name: stored.ref.target for name, stored in found.items()} == {"main": commit(2), "v1": commit(2)}
    assert await read.read_all("data") == found
    keys = [key for _, key, _ in web.requests]
    assert sorted(keys) == ["refs/data/main", "refs/data/v1", "refs/index", "refs/index"], "what is known is not read"
    assert {caching for _, _, caching in web.requests} == {"no-cache"}
    infos = [info async for info in store.list("refs/data/")]
    assert [(await store.get(info.key)).version for info in infos] == [info.version for info in infos]
    assert [(await store.stat(info.key)).version for info in infos] == [info.version for info in infos]
    assert (await store.get_range("refs/data/v1", 0, 5)).version == infos[1].version
    assert (await store.get_tail("refs/data/v1", 5)).data == (await store.get("refs/data/v1")).data[-5:]
    assert await listed(store, "refs/", "refs/data/v1") == ["refs/more/v1"]


async def test_what_never_changes_may_be_cached(web: WebServer) -> None:
    await LocalStore(web.folder, LOCAL_LIMITS).put_if_absent("packs/aa/x", b"0123456789")
    store = HttpStore(web.url, LIMITS)
    await store.get_range("packs/aa/x", 2, 3)
    await store.get_tail("packs/aa/x", 3)
    await store.stat("packs/aa/x")
    assert {caching for _, _, caching in web.requests} == {""}


async def test_a_ref_that_the_list_lacks_is_read_by_its_name(web: WebServer, written: Refs) -> None:
    await written.set_tag("data", "v1", commit(1))
    stale = (web.folder / "refs/index").read_bytes()
    await written.set_tag("data", "v2", commit(2))
    web.replaced["refs/index"] = stale
    read = refs_of(HttpStore(web.url, LIMITS))
    assert list(await read.list("data")) == ["v1"]
    stored = await read.read("data", "v2")
    assert stored is not None
    assert stored.ref.target == commit(2)
    (web.folder / "refs/index").unlink()
    with pytest.raises(NotFoundError, match="has no refs/index") as caught:
        await read.list("data")
    assert "commit to that store once more" in caught.value.hint
    assert await read.read("data", "v2") is not None


# --- what cannot be


async def test_writes_are_refused(web: WebServer) -> None:
    store = HttpStore(web.url, LIMITS)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: store.put_if_absent("key", b""),
        lambda: store.overwrite("key", b""),
        lambda: store.compare_and_swap("key", b"", None),
        lambda: store.delete("key"),
        lambda: store.upload("key").__aenter__(),
        lambda: init_store(store),
    ]
    for call in calls:
        with pytest.raises(UsageError, match=rf"{web.url} can only be read"):
            await call()
    assert web.requests == []


async def test_only_refs_can_be_listed(web: WebServer) -> None:
    with pytest.raises(UsageError, match=r"cannot list commits/4f2a91c\*") as caught:
        await listed(HttpStore(web.url, LIMITS), "commits/4f2a91c")
    assert "whole id" in caught.value.hint


async def test_a_folder_that_is_no_store(web: WebServer) -> None:
    with pytest.raises(NotFoundError, match="is not an fsd store"):
        await open_repositories(HttpStore(web.url, LIMITS))


# --- servers and caches that do as they like


@pytest.fixture
def packed(web: WebServer) -> HttpStore:
    (web.folder / "pack").write_bytes(bytes(range(100)))
    (web.folder / "empty").touch()
    return HttpStore(web.url, LIMITS)


async def test_a_server_without_ranges(web: WebServer, packed: HttpStore) -> None:
    web.sends_ranges = False
    with pytest.raises(StoreUnreachableError, match="it sends whole files where ranges are asked for"):
        await packed.get_range("pack", 1, 2)
    assert (await packed.get_tail("empty", 2)).data == b""
    assert (await packed.get("pack")).size == 100


async def test_a_body_that_is_cut_short(web: WebServer, packed: HttpStore) -> None:
    web.truncates = 1
    with pytest.raises(StoreUnreachableError, match=rf"cannot read pack in {web.url}: the connection to .* broke"):
        await packed.get_range("pack", 10, 20)
    web.truncates = 0
    assert (await packed.get_range("pack", 10, 20)).data == bytes(range(10, 30))


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (403, StorePermissionError, "access is denied"),
        (401, StorePermissionError, "access is denied"),
        (503, StoreUnreachableError, r"127\.0\.0\.1:\d+ answered 503 \(Service Unavailable\)"),
        (429, StoreUnreachableError, r"answered 429 \(Too Many Requests\)"),
        (599, StoreUnreachableError, "answered 599;"),
    ],
)
async def test_errors_of_the_server(
    web: WebServer, packed: HttpStore, status: int, kind: type[StoreUnreachableError], message: str
) -> None:
    web.status = status
    with pytest.raises(StoreUnreachableError, match=message) as caught:
        await packed.get("pack")
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    assert len(web.requests) == 1, "a call is one attempt"


async def test_nobody_there(tmp_path: Path) -> None:
    with WebServer(tmp_path) as server:
        url = server.url
    with pytest.raises(StoreUnreachableError, match=r"127\.0\.0\.1:\d+ cannot be reached"):
        await HttpStore(url, LIMITS).get("key")
    with pytest.raises(StoreUnreachableError, match=r"the name of server\.invalid cannot be resolved"):
        await HttpStore("http://server.invalid", LIMITS).get("key")


async def test_nobody_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = HttpStore(f"http://127.0.0.1:{silent.getsockname()[1]}", IMPATIENT)
        with pytest.raises(StoreUnreachableError, match=r"did not answer (in time|within 0\.3 s)"):
            await store.get("key")
        with trio.move_on_after(0.05) as scope:
            await store.get("key")
        assert scope.cancelled_caught


async def test_over_tls(web: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (web.folder / "key").write_bytes(b"x")
    authority, certificate = make_chain(tmp_path)
    with behind_tls(int(web.url.rpartition(":")[2]), certificate) as url:
        with pytest.raises(StoreUnreachableError, match=r"the certificate of localhost:\d+ is not accepted"):
            await HttpStore(url, LIMITS).get("key")
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        assert (await HttpStore(url, LIMITS).get("key")).data == b"x"


def test_a_forked_process_is_told(web: WebServer) -> None:
    (web.folder / "key").write_bytes(b"x")
    program = f"""
import os, trio
from fsd.errors import UsageError
from fsd.limits import DEFAULT_LIMITS
from fsd.stores.open import open_store
store = lambda: open_store({web.url!r}, DEFAULT_LIMITS)
child = os.fork()
if child:
    assert os.waitpid(child, 0)[1] == 0
trio.run(store().get, "key")  # first in the child, which has a parent that did not
if child and not os.fork():
    try:
        trio.run(store().get, "key")
    except UsageError as error:
        os._exit(0 if "'spawn'" in error.hint else 1)
elif child:
    assert os.wait()[1] == 0
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
