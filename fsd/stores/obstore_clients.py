"""Who asks a bucket of S3 or Azure: endpoints and credentials, found as each cloud's own tools find them.

object_store reads its configuration from the environment (`AWS_*`, `AZURE_*`). What it does not know is added here: for
S3 the credentials come from botocore, which knows profiles, SSO and assumed roles as well; for Azure, `az login` is
tried after the environment and the machine's identity. Where nobody has credentials, the bucket is asked as anybody.

Clients make one attempt a request. Another set, for multipart uploads, tries parts again: nobody else has their bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import botocore.session
import obstore
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, HTTPClientError
from obstore.exceptions import BaseError
from obstore.store import AzureStore, S3Store

from fsd.limits import Limits
from fsd.stores.obstore_clouds import AZURE, S3, Cloud, CredentialsError, NoAccountError
from fsd.stores.obstore_options import NO_RETRIES, client_options, part_retries

CREDENTIALS_LAST = timedelta(seconds=60)
"""How long object_store keeps credentials before it asks botocore again, which renews them in time."""

_NO_TOKEN = re.compile(r"token request|az account get-access-token")
"""What object_store says where an identity cannot be had."""

_PROBE = "fsd.json"

Client = S3Store | AzureStore


class Clients:
    """How one bucket is asked."""

    def __init__(
        self, cloud: Cloud, single: Client, make: Callable[[Any], Client], limits: Limits, *, is_anonymous: bool
    ) -> None:
        """`single` makes one attempt a request; `make` gives a client that tries again as it is told."""
        self.cloud = cloud
        self.is_anonymous = is_anonymous
        self.single = single
        self._make = make
        self._limits = limits

    @cached_property
    def patient(self) -> Client:
        """Parts of uploads are sent again where that failed. (Made when the first is: it takes 20 ms.)"""
        return self._make(part_retries(self._limits))


def s3_clients(bucket: str, limits: Limits) -> Clients:
    """Ask botocore for credentials, which may ask the network. Raises CredentialsError."""
    try:
        session = botocore.session.get_session()
        credentials = session.get_credentials()
        region = session.get_config_variable("region")
    except (BotoCoreError, HTTPClientError, OSError) as error:
        raise CredentialsError(_said(error)) from None
    config: Any = {"disable_bulk_delete": True}
    if region:
        config["region"] = region
    if credentials is None:
        config["skip_signature"] = True
    provider = _Provider(credentials) if credentials is not None else None

    def make(retries: Any) -> S3Store:
        return S3Store(
            bucket,
            config=config,
            client_options=client_options(limits),
            retry_config=retries,
            credential_provider=provider,
        )

    return Clients(S3, make(NO_RETRIES), make, limits, is_anonymous=credentials is None)


def azure_clients(container: str, limits: Limits) -> Clients:
    """Find credentials, which may ask the network. Raises NoAccountError."""

    def making(config: Any) -> Callable[[Any], AzureStore]:
        return lambda retries: AzureStore(
            container,
            config=config,
            client_options=client_options(limits),
            retry_config=retries,
        )

    # Where neither the environment nor the machine says who we are, `az login` may have.
    for make in (making({}), making({"use_azure_cli": True})):
        try:
            single = make(NO_RETRIES)
        except BaseError as error:
            if "Account must be specified" in str(error):
                raise NoAccountError from None
            raise
        if not _lacks_token(single):
            return Clients(AZURE, single, make, limits, is_anonymous=False)
    make = making({"skip_signature": True})
    return Clients(AZURE, make(NO_RETRIES), make, limits, is_anonymous=True)


class _Provider:
    """Hands botocore's credentials to object_store. Called in object_store's threads."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def __call__(self) -> Any:
        try:
            frozen = self._credentials.get_frozen_credentials()
        except (BotoCoreError, HTTPClientError, OSError) as error:
            raise CredentialsError(_said(error)) from None
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + CREDENTIALS_LAST,
        }


def _lacks_token(client: AzureStore) -> bool:
    """Whether there is no identity to ask with. (What the answer is does not matter.)"""
    try:
        obstore.head(client, _PROBE)
    except (BaseError, OSError) as error:
        return _NO_TOKEN.search(str(error)) is not None
    return False


def _said(error: Exception) -> str:
    """What botocore says in one line; it names profiles, files and hosts, and no secret."""
    return " ".join(str(error).split())
