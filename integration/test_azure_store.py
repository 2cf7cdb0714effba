"""The store in a container of Azure: credentials, uploads in parts, and what it says of failures.

(That it keeps the contract is tested in `test_azure_contract`.)
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from fsd.errors import StorePermissionError, StoreUnreachableError
from fsd.limits import MIB
from fsd.stores.obstore import ObstoreStore
from fsd.stores.obstore_upload import PART_BYTES
from integration.azure_places import azure_environment, places_in
from integration.azure_server import KEY, PAGE, AzureServer, RefusalError
from integration.gcs_fixtures import content, upload
from integration.places import closing
from tests.contract.places import listed


@pytest.fixture
def azure() -> Iterator[AzureServer]:
    with AzureServer() as server:
        server.create_container("container")
        yield server
        assert server.refusals == [], "every fault was met"


@pytest.fixture
def environment(azure: AzureServer) -> Iterator[pytest.MonkeyPatch]:
    with azure_environment(azure.url) as patch:
        yield patch


@pytest.fixture
def store(azure: AzureServer, environment: pytest.MonkeyPatch) -> Iterator[ObstoreStore]:  # noqa: ARG001
    with closing(places_in(azure)) as places:
        yield places.open("container")


async def test_an_upload_in_parts(azure: AzureServer, store: ObstoreStore) -> None:
    data = content(2 * PART_BYTES + 5 * MIB + 17)
    version = await upload(store, "packs/one", data)
    fetched = await store.get("packs/one")
    assert (fetched.data, fetched.version) == (data, version)
    assert azure.requests.count("PUT block") == 3
    async with store.upload("packs/two") as pack:
        await pack.write(data)
    assert await listed(store) == ["packs/one"]


async def test_pages(azure: AzureServer, store: ObstoreStore) -> None:
    keys = [f"k{number:04}" for number in range(2_500)]
    azure.fill("container", [f"some/prefix/{key}" for key in [*keys, "a/b", "with space", "l/last"]])
    azure.fill("container", ["some/other", "some/prefix-/k", "some/prefiw/z"])
    assert await listed(store, "k") == keys
    first = []
    async for info in store.list("k"):
        first.append(info.key)
        if len(first) == 700:
            break
    assert first + await listed(store, "k", first[-1]) == keys
    azure.requests.clear()
    assert await listed(store) == ["a/b", *keys, "l/last"]
    assert azure.requests == ["GET list"] * 3


async def test_a_page_may_hold_nothing_of_ours(azure: AzureServer, store: ObstoreStore) -> None:
    """Pages end where the server likes, also before what was asked for."""
    azure.fill("container", ["some/prefix/k", *(f"some/prefix/{number:04} no key" for number in range(PAGE + 1))])
    assert await listed(store) == ["k"]
    assert azure.requests.count("GET list") == 2


async def test_no_secret_is_logged(store: ObstoreStore, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await store.delete("secret", await store.put_if_absent("secret", b"x"))
    for secret in (KEY, "sig="):
        assert secret not in caplog.text


async def test_nobody_says_which_account(store: ObstoreStore, environment: pytest.MonkeyPatch) -> None:
    environment.delenv("AZURE_STORAGE_ACCOUNT_NAME")
    with pytest.raises(StorePermissionError, match="which storage account that is; set AZURE_STORAGE_ACCOUNT_NAME"):
        await store.get("key")


async def test_who_has_no_credentials_asks_as_anybody(
    azure: AzureServer, store: ObstoreStore, environment: pytest.MonkeyPatch
) -> None:
    await store.put_if_absent("key", b"x")
    environment.delenv("AZURE_STORAGE_ACCOUNT_KEY")
    anybody = places_in(azure).open("container")
    with pytest.raises(StorePermissionError, match="no credentials were found, and not everybody may") as caught:
        await anybody.get("key")
    assert "az login" in caught.value.hint
    azure.is_public = True
    assert (await anybody.get("key")).data == b"x"
    with pytest.raises(StorePermissionError, match="no credentials were found"):
        await anybody.put_if_absent("new", b"x")
    await anybody.aclose()


async def test_a_sas_token(azure: AzureServer, store: ObstoreStore, environment: pytest.MonkeyPatch) -> None:
    version = await store.put_if_absent("key", b"x")
    environment.delenv("AZURE_STORAGE_ACCOUNT_KEY")
    environment.setenv("AZURE_STORAGE_SAS_TOKEN", "sv=2021-08-06&sig=whoever-has-this")
    sas = places_in(azure).open("container")
    assert (await sas.get("key")).data == b"x"
    with pytest.raises(StorePermissionError, match="a SAS token cannot delete an object at one version") as caught:
        await sas.delete("key", version)
    azure.refusals.append(RefusalError(403, "AuthorizationFailure"))
    with pytest.raises(StorePermissionError, match="the credentials are not accepted") as caught:
        await sas.get("key")
    assert "whoever-has-this" not in str(caught.value)
    await sas.delete("key")
    await sas.aclose()


async def test_failures(azure: AzureServer, store: ObstoreStore) -> None:
    await store.put_if_absent("key", b"x")
    for refusal, message in [
        (RefusalError(503, "ServerBusy"), r"127\.0\.0\.1:\d+ answered 503 \(Service Unavailable\)"),
        (RefusalError(403, "AuthorizationPermissionMismatch"), "access is denied .*Storage Blob Data Contributor"),
        (RefusalError(404, "ContainerNotFound"), "no container container; make it with: az storage container create"),
    ]:
        azure.refusals.append(refusal)
        with pytest.raises(StoreUnreachableError, match=message) as caught:
            await store.get("key")
        assert "\n" not in str(caught.value)
