"""The store in a bucket of S3: uploads in parts, pages of listings, credentials, and what it says of failures.

(That it keeps the contract is tested in `test_s3_contract`.)
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from fsd.errors import StorePermissionError, StoreUnreachableError
from fsd.limits import MIB
from fsd.stores.base import ObjectExistsError, ObjectNotFoundError, Version, VersionMismatchError
from fsd.stores.obstore import ObstoreStore
from fsd.stores.obstore_upload import PART_BYTES
from fsd.stores.retry import RetryingStore
from integration.gcs_fixtures import content, upload
from integration.places import closing
from integration.s3_places import LIMITS, SECRET, MotoServer, places_in, s3_environment
from tests.contract.places import listed


@pytest.fixture(scope="module")
def moto() -> Iterator[MotoServer]:
    with MotoServer() as server:
        server.create_bucket("bucket")
        yield server


@pytest.fixture
def environment(moto: MotoServer, tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    with s3_environment(moto.url, tmp_path) as patch:
        yield patch


@pytest.fixture
def store(moto: MotoServer, environment: pytest.MonkeyPatch) -> Iterator[ObstoreStore]:  # noqa: ARG001
    moto.requests.clear()
    with closing(places_in(moto)) as places:
        yield places.open("bucket")
    assert moto.refusals == [], "every fault was met"


# --- what it costs


async def test_requests(moto: MotoServer, store: ObstoreStore) -> None:
    def asked() -> list[str]:
        methods = [method for method, _, _ in moto.requests]
        moto.requests.clear()
        return methods

    version = await store.put_if_absent("key", b"0123456789")
    assert asked() == ["PUT"]
    await store.get("key")
    await store.get_range("key", 2, 3)
    await store.get_tail("key", 3)
    assert asked() == ["GET"] * 3
    await store.get_range("key", 10, 1)
    assert asked() == ["GET", "HEAD"]
    version = await store.compare_and_swap("key", b"x", version)
    assert asked() == ["PUT"]
    await store.delete("key", version)
    assert asked() == ["HEAD", "DELETE"]
    await store.delete("key")
    assert asked() == ["DELETE"]
    with pytest.raises(VersionMismatchError):
        await store.compare_and_swap("key", b"", Version("nonsense"))
    assert asked() == []


async def test_equal_bytes_have_equal_versions(store: ObstoreStore) -> None:
    """As docs/decisions/0013 says: S3 names contents."""
    version = await store.overwrite("same", b"1")
    assert await store.overwrite("same", b"1") == version
    assert await store.overwrite("same", b"2") != version


async def test_pages(moto: MotoServer, store: ObstoreStore) -> None:
    keys = [f"k{number:04}" for number in range(2_500)]
    moto.create_bucket("pages")
    moto.fill("pages", [f"some/prefix/{key}" for key in [*keys, "a/b", "with space", "l/last"]])
    moto.fill("pages", ["some/other", "some/prefix-/k", "some/prefiw/z"])
    pages = places_in(moto).open("pages")
    moto.requests.clear()
    assert await listed(pages, "k") == keys
    assert len(moto.requests) == 3
    moto.requests.clear()
    assert await listed(pages, "k24") == keys[2_400:]
    assert len(moto.requests) == 1, "what comes first is skipped"
    first = []
    async for info in pages.list("k"):
        first.append(info.key)
        if len(first) == 700:
            break
    assert first + await listed(pages, "k", first[-1]) == keys
    assert await listed(pages) == ["a/b", *keys, "l/last"]
    del store


# --- uploads


async def test_an_upload_in_parts(moto: MotoServer, store: ObstoreStore) -> None:
    data = content(2 * PART_BYTES + 5 * MIB + 17)
    buffer = bytearray(3 * MIB)
    async with store.upload("packs/one") as pack:
        for start in range(0, len(data), len(buffer)):
            piece = data[start : start + len(buffer)]
            buffer[: len(piece)] = piece
            await pack.write(memoryview(buffer)[: len(piece)])
        buffer[:] = bytes(len(buffer))
        with pytest.raises(ObjectNotFoundError):
            await store.stat("packs/one")
        version = await pack.finish()
    fetched = await store.get("packs/one")
    assert fetched.version == version
    assert fetched.data == data
    assert moto.unfinished_uploads("bucket") == 0


async def test_a_failed_part_is_sent_again(moto: MotoServer, store: ObstoreStore) -> None:
    data = content(PART_BYTES + MIB)
    async with store.upload("packs/two") as pack:
        await pack.write(data)
        moto.refusals += [("PUT", "503 Slow Down", "<Code>SlowDown</Code>")] * 2
        await pack.finish()
    assert (await store.get("packs/two")).data == data


async def test_what_is_not_finished_is_aborted(moto: MotoServer, store: ObstoreStore) -> None:
    async with store.upload("packs/three") as pack:
        await pack.write(content(PART_BYTES + MIB))
        await pack.write(content(PART_BYTES))
    assert moto.unfinished_uploads("bucket") == 0
    assert await listed(store, "packs/three") == []


async def test_an_upload_in_parts_leaves_what_came_first(moto: MotoServer, store: ObstoreStore) -> None:
    await store.put_if_absent("packs/four", b"early")
    with pytest.raises(ObjectExistsError):
        await upload(store, "packs/four", content(PART_BYTES))
    async with store.upload("packs/five") as pack:
        await pack.write(content(PART_BYTES))
        await store.put_if_absent("packs/five", b"early")
        with pytest.raises(ObjectExistsError):
            await pack.finish()
    assert (await store.get("packs/five")).data == b"early"
    assert moto.unfinished_uploads("bucket") == 0


# --- credentials


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG)
    return caplog


async def test_no_secret_is_logged(store: ObstoreStore, logged: pytest.LogCaptureFixture) -> None:
    version = await store.put_if_absent("secret", b"x")
    await store.delete("secret", version)
    for secret in (SECRET, "Signature"):
        assert secret not in logged.text


async def test_a_profile(
    moto: MotoServer, store: ObstoreStore, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment.delenv("AWS_ACCESS_KEY_ID")
    environment.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "credentials").write_text(f"[work]\naws_access_key_id = of-work\naws_secret_access_key = {SECRET}\n")
    (tmp_path / "config").write_text("[profile work]\nregion = eu-west-1\n")
    environment.setenv("AWS_PROFILE", "work")
    await store.put_if_absent("profile", b"x")
    assert "Credential=of-work/" in moto.requests[-1][2]
    assert "/eu-west-1/s3/" in moto.requests[-1][2]


async def test_a_profile_that_is_not_there(store: ObstoreStore, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AWS_PROFILE", "wrok")
    with pytest.raises(
        StorePermissionError, match=r"credentials cannot be used: The config profile \(wrok\)"
    ) as caught:
        await store.get("key")
    assert "AWS_PROFILE" in caught.value.hint


async def test_no_credentials(moto: MotoServer, store: ObstoreStore, environment: pytest.MonkeyPatch) -> None:
    environment.delenv("AWS_ACCESS_KEY_ID")
    environment.delenv("AWS_SECRET_ACCESS_KEY")
    moto.refusals.append(("GET", "403 Forbidden", "<Code>AccessDenied</Code>"))
    with pytest.raises(StorePermissionError, match="no credentials were found, and not everybody may") as caught:
        await store.get("key")
    assert "aws sso login" in caught.value.hint
    assert moto.requests[-1][2] == "", "it asked as anybody"


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        ("400 Bad Request", "<Code>ExpiredToken</Code>", StorePermissionError, r"have expired \(ExpiredToken\); run"),
        ("403 Forbidden", "<Code>InvalidAccessKeyId</Code>", StorePermissionError, "are not accepted"),
        ("403 Forbidden", "<Code>SignatureDoesNotMatch</Code>", StorePermissionError, "are not accepted"),
        ("403 Forbidden", "<Code>RequestTimeTooSkewed</Code>", StorePermissionError, "this machine's clock is wrong"),
        ("403 Forbidden", "<Code>AccessDenied</Code>", StorePermissionError, r"access is denied .*s3:GetObject"),
        (
            "400 Bad Request",
            "<Code>AuthorizationHeaderMalformed</Code><Region>eu-central-1</Region>",
            StorePermissionError,
            "in another region; set AWS_REGION=eu-central-1",
        ),
        ("301 Moved", "<Code>PermanentRedirect</Code>", StorePermissionError, "in another region; set AWS_REGION to"),
        ("503 Slow Down", "<Code>SlowDown</Code>", StoreUnreachableError, "answered 503"),
        ("500 Oh", "", StoreUnreachableError, r"answered 500 \(Internal Server Error\)"),
        (
            "404 Not Found",
            "<Code>NoSuchBucket</Code>",
            StoreUnreachableError,
            "no bucket bucket; make it with: aws s3 mb",
        ),
    ],
)
async def test_what_is_said_of_refusals(
    moto: MotoServer, store: ObstoreStore, status: str, body: str, kind: type[Exception], message: str
) -> None:
    moto.refusals.append(("GET", status, body))
    with pytest.raises(StoreUnreachableError, match=message) as caught:
        await store.get("key")
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    assert "http" not in caught.value.message


async def test_calls_of_every_kind_fail_as_one(moto: MotoServer, store: ObstoreStore) -> None:
    version = await store.put_if_absent("failing", b"x")
    calls: list[tuple[str, Callable[[], Awaitable[object]]]] = [
        ("PUT", lambda: store.put_if_absent("new", b"")),
        ("PUT", lambda: store.overwrite("new", b"")),
        ("HEAD", lambda: store.stat("failing")),
        ("GET", lambda: listed(store)),
        ("DELETE", lambda: store.delete("failing")),
        ("DELETE", lambda: store.delete("failing", version)),
    ]
    for method, call in calls:
        for status, kind in (("503 Slow Down", StoreUnreachableError), ("403 Forbidden", StorePermissionError)):
            moto.refusals.append((method, status, ""))
            moto.requests.clear()
            with pytest.raises(kind):
                await call()
            assert len([each for each in moto.requests if each[0] == method]) == 1, "one attempt"
    moto.refusals += [("GET", "503 Slow Down", "")] * 2
    assert (await RetryingStore(store, LIMITS).get("failing")).data == b"x"


async def test_no_bucket(moto: MotoServer, store: ObstoreStore) -> None:
    del store
    missing = places_in(moto).open("missing")
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: missing.get("key"),
        lambda: listed(missing),
        lambda: missing.put_if_absent("key", b""),
    ]
    for call in calls:
        with pytest.raises(
            StoreUnreachableError, match="there is no bucket missing; make it with: aws s3 mb s3://missing"
        ):
            await call()


async def test_nobody_there(store: ObstoreStore, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(StoreUnreachableError, match=r"127\.0\.0\.1:1 cannot be reached"):
        await store.get("key")
