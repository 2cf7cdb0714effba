"""The control socket: who finds it, what it answers, and what ends when who asked goes away."""

from __future__ import annotations

import json
import logging
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from fsd.daemon import control, control_api, control_client
from fsd.daemon.control_api import Body, Order
from fsd.daemon.control_client import ControlError, fetching
from fsd.daemon.donor import MountDonor
from fsd.daemon.mounts import Mount
from fsd.daemon.sockets import address
from fsd.errors import StoreUnreachableError, UsageError
from fsd.format.keys import ObjectKind, object_key
from fsd.ids import content_id
from fsd.repo.revisions import resolve
from fsd.vfs.virtual import Failure
from fsd_cli.prefetch import _read_order
from tests.faulty import Fail, Stall
from tests.vfs.world import TREE, World, new_store, opened


def test_a_socket_that_was_left_is_replaced_and_ours_is_private_and_taken_away(tmp_path: Path) -> None:
    path = tmp_path / control.SOCKET_NAME
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert path.exists()
    with control.listening(tmp_path), socket.socket(socket.AF_UNIX) as client:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        client.connect(str(path))
    assert not path.exists()


@pytest.mark.parametrize("length", [90, 107, 108, 250, 1000])
def test_a_path_may_be_as_long_as_it_likes(tmp_path: Path, length: int) -> None:
    folder = tmp_path
    while len(str(folder / control.SOCKET_NAME)) < length:
        left = length - len(str(folder / control.SOCKET_NAME)) - 1
        folder /= "x" * max(1, min(200, left))
    folder.mkdir(parents=True, exist_ok=True)
    before = len(os.listdir("/proc/self/fd"))
    with control.listening(folder) as listener, socket.socket(socket.AF_UNIX) as client:
        with address(folder / control.SOCKET_NAME) as connected:
            client.connect(connected)
        listener.accept()[0].close()
    assert len(os.listdir("/proc/self/fd")) == before


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[World]:
    """A store, and the control socket of its vfs in `folder`."""
    builder = await new_store()
    await builder.commit("data", TREE, tag="v1")
    async with opened(builder, folder / "cache") as world, trio.open_nursery() as nursery:
        with control.listening(folder) as listener:
            nursery.start_soon(control.serve, listener, world.vfs)
            yield world
            nursery.cancel_scope.cancel()


async def connected(folder: Path) -> trio.SocketStream:
    return await trio.open_unix_socket(str(folder / control.SOCKET_NAME))


async def ask(folder: Path, what: str, asked: bytes) -> tuple[int, list[dict[str, Any]]]:
    """The status and the lines of an answer."""
    stream = await connected(folder)
    head = f"POST /v1/{what} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(asked)}\r\n\r\n"
    await stream.send_all(head.encode() + asked)
    answer = b""
    async for part in stream:
        answer += part
    await stream.aclose()
    head_text, _, body = answer.partition(b"\r\n\r\n")
    lines = [json.loads(line) for line in body.split(b"\n") if line.startswith(b"{")]
    return int(head_text.split()[1]), lines


def mounted(folder: Path) -> Mount:
    """What a client takes for the mount whose control socket is in `folder`."""
    (folder / ".fsd").mkdir()
    (folder / ".fsd" / "status").write_text(json.dumps({"control": str(folder / control.SOCKET_NAME)}))
    return Mount(str(folder), "", "", "", "")


async def test_what_is_asked_is_answered(tmp_path: Path) -> None:
    async with served(tmp_path) as world:
        status, lines = await ask(tmp_path, "prefetch", b'{"path": "data/v1", "pin": true}')
        assert (status, lines[-1]["result"]["left_bytes"]) == (200, 0)
        assert world.vfs.holdings.pins()[0]["complete"]
        _, lines = await ask(tmp_path, "coverage", b'{"path": "data/v1"}')
        assert lines[-1]["result"]["pinned"]
        _, lines = await ask(tmp_path, "evict", b'{"path": "data/v1", "unpin": true}')
        assert lines[-1]["result"]["ended_pins"] == ["data/v1"]
        _, lines = await ask(tmp_path, "replay?path=data/v1", b'"README"\n"nothing"\n"train/a.txt"')
        assert (lines[-1]["result"]["files"], lines[-1]["result"]["unknown_paths"]) == (2, 1)
        _, lines = await ask(tmp_path, "coverage", b'{"path": "data/v3"}')
        assert (lines[-1]["error"]["exit_code"], lines[-1]["error"]["message"]) == (4, "there is no data/v3")
        _, lines = await ask(tmp_path, "replay?path=data/v1", b"README\n")
        assert lines[-1]["error"]["exit_code"] == 2


@pytest.mark.parametrize(
    "asked", [b"", b"x", b"[]", b"{}", b'{"path": 1}', b'{"path": "data/v1", "verify": 1}', b'{"path": "", "x": 1}']
)
async def test_what_makes_no_sense_is_refused(tmp_path: Path, asked: bytes) -> None:
    async with served(tmp_path):
        status, lines = await ask(tmp_path, "coverage", asked)
        assert (status, lines[0]["error"]["exit_code"]) == (400, 2)


async def test_who_is_refused_before_he_has_said_everything_is_told_why(tmp_path: Path) -> None:
    async with served(tmp_path):
        asked = {"path": "x" * (8 << 20)}
        with pytest.raises(ControlError, match="the request is too long"):
            await trio.to_thread.run_sync(control_client.ask, mounted(tmp_path), "/v1/coverage", asked)


async def test_who_goes_away_cancels_what_he_asked_for(tmp_path: Path) -> None:
    async with served(tmp_path) as world:
        stalled = world.store.inject("get_range", "packs/*", Stall())
        stream = await connected(tmp_path)
        asked = b'{"path": "data/v1"}'
        await stream.send_all(
            b"POST /v1/prefetch HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(asked) + asked
        )
        await stalled.wait_met()
        assert b'{"progress": ' in await stream.receive_some() + await stream.receive_some()
        assert world.cache.statistics().in_flight_requests == 1
        await stream.aclose()
        in_flight = 1
        while in_flight:
            await trio.sleep(0.002)
            in_flight = world.cache.statistics().in_flight_requests
        stalled.remove()
        _, lines = await ask(tmp_path, "prefetch", asked)
        assert lines[-1]["result"]["left_bytes"] == 0


async def test_an_order_comes_in_any_pieces() -> None:
    text = b'"a"\n\n"b/\\udcff"\n"c"'
    for size in (1, 3, 100):
        body = Body()
        for at in range(0, len(text), size):
            body.add(text[at : at + size])
        body.end()
        assert [path async for path in Order(body)] == [b"a", b"b/\xff", b"c"]


@pytest.mark.parametrize("line", [b"a\n", b"1\n", b'"x' + b"x" * 100_000])
async def test_what_is_no_order_is_refused(line: bytes) -> None:
    body = Body()
    body.add(line)
    body.end()
    with pytest.raises(UsageError):
        await anext(Order(body))


async def test_an_order_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_api, "MAX_BODY_BYTES", 10_000)
    body = Body()
    for _ in range(50):
        body.add(os.urandom(1000).hex().encode())
    with pytest.raises(UsageError, match="too long"):
        await body.receive()


async def test_a_replay_that_waits_for_its_reader_ends_with_its_client(tmp_path: Path) -> None:
    async with served(tmp_path) as world:
        observers = world.vfs._observers
        stream = await connected(tmp_path)
        await stream.send_all(b"POST /v1/replay?path=data/v1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not observers:
            await stream.send_all(b'a\r\n"nothing"\n\r\n')
        await stream.aclose()
        while observers:
            await trio.sleep(0.002)
            observers = world.vfs._observers


@pytest.mark.parametrize("first", ["", "x", "[]", "{}", '{"order": 2}'])
def test_a_file_that_is_no_recording_is_refused(first: str) -> None:
    with pytest.raises(UsageError, match="is no order of reads"):
        _read_order(Path("order"), [first, '"a"'])
    assert list(_read_order(Path("order"), ['{"order": 1}', '"a"\n', "\n", '"b"'])) == ["a", "b"]


async def test_what_the_cache_has_is_given_to_who_repairs_a_store(tmp_path: Path) -> None:
    """Chunks and objects as bytes, over one connection; nothing is fetched for it."""
    async with served(tmp_path) as world:
        await ask(tmp_path, "prefetch", b'{"path": "data/v1"}')
        mount = mounted(tmp_path)
        commit = (await resolve(world.repositories, "data", "v1")).commit
        key = object_key(ObjectKind.COMMIT, commit)
        small, absent = b"hello", b"nobody has this"
        calls = len(world.store.calls)
        with fetching(mount) as connection:
            donor = MountDonor(connection, mount.mountpoint)
            await donor.look_for({content_id(small): len(small)})
            assert await donor.chunk(content_id(small), len(small)) == small
            assert await donor.chunk(content_id(absent), len(absent)) is None
            assert await donor.chunk(content_id(small), len(small) + 1) is None
            stored = await donor.stored_object(ObjectKind.COMMIT, commit)
            assert stored == (await world.store.inner.get(key)).data
            assert await donor.stored_object(ObjectKind.PAGE, commit) is None
            assert await trio.to_thread.run_sync(connection.fetch, "nothing", {}) is None
        assert len(world.store.calls) == calls


@pytest.mark.parametrize(
    ("what", "asked"),
    [
        ("chunk", b'{"id": "00"}'),
        ("chunk", b'{"id": "%s", "length": 0}' % (b"0" * 64)),
        ("chunk", b'{"id": "%s", "length": 16777217}' % (b"0" * 64)),
        ("chunk", b'{"id": "x", "length": 1}'),
        ("object", b'{"id": "%s"}' % (b"0" * 64)),
        ("object", b'{"id": "%s", "kind": "ref"}' % (b"0" * 64)),
        ("object", b'{"id": "0", "kind": "page"}'),
    ],
)
async def test_what_names_no_chunk_or_object_is_refused(tmp_path: Path, what: str, asked: bytes) -> None:
    async with served(tmp_path):
        status, lines = await ask(tmp_path, what, asked)
        assert (status, lines[0]["error"]["exit_code"]) == (400, 2)


# --- about the daemon


async def get(folder: Path, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """The status and the body of a short answer."""
    stream = await connected(folder)
    method, content = ("GET", b"") if body is None else ("POST", body)
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(content)}\r\n\r\n"
    await stream.send_all(head.encode() + content)
    answer = b"".join([part async for part in stream])
    await stream.aclose()
    head_text, _, answered = answer.partition(b"\r\n\r\n")
    return int(head_text.split()[1]), answered


async def get_json(folder: Path, path: str, body: bytes | None = None) -> Any:
    status, answer = await get(folder, path, body)
    assert status == 200
    return json.loads(answer)


async def test_what_the_daemon_tells_of_itself(tmp_path: Path) -> None:
    async with served(tmp_path) as world:
        await world.content(b"data/v1/README")
        assert (await get_json(tmp_path, "/v1/status"))["requests"] == world.vfs.status()["requests"]
        [mount] = await get_json(tmp_path, "/v1/mounts")
        assert mount["store"] == world.repositories.store.url
        assert await get_json(tmp_path, "/v1/files") == []
        assert await get_json(tmp_path, "/v1/errors") == []
        world.vfs.errors.record(Failure("/f", "no answer", "ab", "cd"), logging.WARNING)
        [error] = await get_json(tmp_path, "/v1/errors")
        assert (error["what"], error["message"], error["chunk"], error["count"]) == ("/f", "no answer", "ab", 1)


async def test_refreshed_it_knows_what_is_new(tmp_path: Path) -> None:
    async with served(tmp_path) as world:
        assert await world.names(b"data") == [b"main", b"v1"]
        await world.builder.commit("data", {b"f": b"new"}, tag="v2")
        await world.builder.commit("other", {b"f": b"new"}, tag="v1")
        assert await world.names(b"data") == [b"main", b"v1"]  # was asked for a moment ago
        slow = await connected(tmp_path)
        await slow.send_all(b"POST /v1/refresh HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n")
        assert await get_json(tmp_path, "/v1/refresh", b"{}") == {}
        await slow.send_all(b"{}")
        assert (await slow.receive_some()).startswith(b"HTTP/1.1 200")
        await slow.aclose()
        assert await world.names(b"data") == [b"main", b"v1", b"v2"]
        assert await world.names(b"") == [b"data", b"other"]


async def test_a_store_that_cannot_be_asked_is_told(tmp_path: Path) -> None:
    async with served(tmp_path) as world:
        world.store.inject("list", "*", Fail(StoreUnreachableError("no route")))
        status, answer = await get(tmp_path, "/v1/refresh", b"{}")
        error = json.loads(answer)["error"]
        assert (status, error["message"], error["exit_code"]) == (502, "no route", 5)


async def test_the_log_level_is_changed(tmp_path: Path) -> None:
    before = logging.getLogger().level
    async with served(tmp_path):
        try:
            assert await get_json(tmp_path, "/v1/log-level", b'{"level": "debug"}') == {"level": "debug"}
            assert await get_json(tmp_path, "/v1/log-level") == {"level": "debug"}
            for wrong in (b'{"level": "loud"}', b"[]", b"x", b"{}"):
                status, answer = await get(tmp_path, "/v1/log-level", wrong)
                assert status == 400
                assert json.loads(answer)["error"]["hint"] == "a level is one of debug, info, warning, error"
        finally:
            logging.getLogger().setLevel(before)


async def test_metrics_are_what_was_counted(tmp_path: Path) -> None:
    async with served(tmp_path) as world:
        size = len(await world.content(b"data/v1/README"))
        status, answer = await get(tmp_path, "/metrics")
        assert status == 200
        found = {
            (sample.name, *sorted(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(answer.decode())
            for sample in family.samples
        }
        counted = world.cache.statistics()
        assert found["fsd_read_bytes_total",] == size
        assert found["fsd_requests_total", "read"] == world.vfs.requests["read"]
        assert found["fsd_fetches_total",] == counted.fetched_requests == 1
        assert found["fsd_store_read_bytes_total",] == counted.fetched_bytes
        assert found["fsd_cache_limit_bytes",] == counted.limit_bytes
        assert found["fsd_cache_bytes", "mirrors"] == counted.mirror_bytes
        assert found["fsd_fetch_seconds_count",] == found["fsd_fetch_seconds_bucket", "+Inf"] == 1
        assert found["fsd_waiting_read_seconds_count",] == 1
        assert found["fsd_corrupt_chunks_total",] == 0
        assert found["process_open_fds",] > 3


async def test_a_listener_for_metrics_has_nothing_else(tmp_path: Path) -> None:
    builder = await new_store()
    async with opened(builder, tmp_path) as world, trio.open_nursery() as nursery:
        with control.listening_for_metrics(("127.0.0.1", 0)) as listener:
            nursery.start_soon(partial(control.serve, listener, world.vfs, only_metrics=True))
            for path, expected in (("/metrics", b"200"), ("/v1/status", b"404"), ("/v1/prefetch", b"404")):
                stream = await trio.open_tcp_stream(*listener.getsockname())
                await stream.send_all(b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % path.encode())
                assert (await stream.receive_some()).split()[1] == expected
                await stream.aclose()
            nursery.cancel_scope.cancel()
