"""The part of the Google Cloud store that needs no server: URLs, and what errors mean. (The rest: integration/.)"""

from __future__ import annotations

import ssl
from typing import Any

import pytest
import requests
import urllib3.exceptions
from google.api_core import exceptions as api
from google.auth import exceptions as auth

from fsd.errors import FsdError, StorePermissionError, StoreUnreachableError, UsageError
from fsd.limits import DEFAULT_LIMITS
from fsd.stores.base import ObjectNotFoundError
from fsd.stores.bucket import UnusableAnswerError
from fsd.stores.gcs import open_url, parse_url
from fsd.stores.gcs_bucket import NoCredentialsError, SessionLostError
from fsd.stores.gcs_errors import UploadLostError, translate
from fsd.stores.gcs_exchange import BrokenOffError

SECRET = "https://storage.example/upload?upload_id=SECRET"


@pytest.mark.parametrize(
    ("url", "bucket", "prefix"),
    [
        ("gs://bucket", "bucket", ""),
        ("gs://bucket/", "bucket", ""),
        ("GS://Bucket/prefix", "bucket", "prefix"),
        ("gs://my.bucket_1-x/some/Prefix/", "my.bucket_1-x", "some/Prefix"),
        ("gs://bucket/über", "bucket", "über"),
        ("gs://bucket/100%25", "bucket", "100%25"),
    ],
)
def test_urls(url: str, bucket: str, prefix: str) -> None:
    assert parse_url(url) == (bucket, prefix)
    assert open_url(url, DEFAULT_LIMITS).url == f"gs://{bucket}/{prefix}".rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        "gs://",
        "gs:///prefix",
        "gs://a",
        "gs://user:password@bucket/prefix",
        "gs://bucket:80/prefix",
        "gs://-bucket",
        "gs://bucket//prefix",
        "gs://bucket/a//b",
        "gs://bucket/../b",
        "gs://bucket/./b",
        "gs://bucket/a?x=1",
        "gs://bucket/a#b",
        "gs://bucket/*",
        "gs://bucket/a\nb",
        "gs://bucket/" + "x" * 600,
    ],
)
def test_malformed_urls(url: str) -> None:
    with pytest.raises(UsageError):
        parse_url(url)


def translated(error: Exception, *, verb: str = "read", is_anonymous: bool = False) -> FsdError:
    return translate(error, verb, "refs/a/b", "gs://bucket/prefix", "storage.example", is_anonymous=is_anonymous)


def api_error(kind: type[api.GoogleAPICallError], message: str = "", reason: str = "") -> api.GoogleAPICallError:
    errors: Any = [{"reason": reason, "message": message}]
    return kind(f"GET {SECRET}: {message}", errors=errors)


def wrapped(error: Exception) -> Exception:
    """As requests wraps what urllib3 wraps."""
    pool = urllib3.HTTPConnectionPool("storage.example")
    return requests.exceptions.ConnectionError(urllib3.exceptions.MaxRetryError(pool, SECRET, error))


CONNECTION: Any = None

PERMISSION = [
    (api_error(api.Forbidden, "somebody does not have storage.objects.get access"), "storage.objects.get"),
    (api_error(api.Forbidden, "no", "forbidden"), "access is denied"),
    (api_error(api.Unauthorized, "no"), "not accepted"),
    (auth.RefreshError(f"invalid_grant {SECRET}"), "expired or were revoked"),
    (NoCredentialsError("File /x was not found."), "/x was not found"),
    (auth.InvalidOperation("Anonymous credentials cannot be refreshed."), "not accepted"),
]


@pytest.mark.parametrize(("error", "words"), PERMISSION)
def test_refusals(error: Exception, words: str) -> None:
    for verb in ("read", "write", "list", "delete"):
        found = translated(error, verb=verb)
        assert isinstance(found, StorePermissionError)
        assert words in found.message
        assert found.hint
        assert "\n" not in str(found)
        assert "SECRET" not in str(found)


def test_who_has_no_credentials_is_told_so() -> None:
    for error in (api_error(api.Forbidden), api_error(api.Unauthorized), auth.InvalidOperation("")):
        found = translated(error, is_anonymous=True)
        assert isinstance(found, StorePermissionError)
        assert "no credentials were found" in found.message
        assert "GOOGLE_APPLICATION_CREDENTIALS" in found.hint


UNREACHABLE = [
    (api_error(api.ServiceUnavailable), "storage.example answered 503 (Service Unavailable)"),
    (api_error(api.TooManyRequests), "answered 429 (Too Many Requests)"),
    (api_error(api.InternalServerError), "answered 500"),
    (api_error(api.BadRequest), "answered 400"),
    (api_error(api.Forbidden, "slow down", "rateLimitExceeded"), "answered 403"),
    (wrapped(urllib3.exceptions.NameResolutionError("h", CONNECTION, OSError())), "cannot be resolved"),
    (wrapped(urllib3.exceptions.NewConnectionError(CONNECTION, SECRET)), "cannot be reached"),
    (wrapped(urllib3.exceptions.ConnectTimeoutError(CONNECTION, SECRET)), "did not answer in time"),
    (requests.exceptions.ReadTimeout(urllib3.exceptions.ReadTimeoutError(CONNECTION, SECRET, "")), "in time"),
    (wrapped(urllib3.exceptions.SSLError(ssl.SSLCertVerificationError(1, SECRET))), "certificate"),
    (wrapped(urllib3.exceptions.SSLError(ssl.SSLEOFError(8, SECRET))), "broke"),
    (urllib3.exceptions.ProtocolError(SECRET, ConnectionResetError()), "broke"),
    (requests.exceptions.ConnectionError(SECRET), "broke"),
    (requests.exceptions.JSONDecodeError(SECRET, "", 0), "broke"),
    (BrokenOffError("broken off"), "given up"),
    (UnusableAnswerError("it sent more or less than it was asked for"), "sent more or less"),
    (auth.TransportError(SECRET), "renewed"),
    (auth.RefreshError(SECRET, retryable=True), "renewed"),
    (ValueError(SECRET), "cannot be understood (ValueError)"),
]


@pytest.mark.parametrize(("error", "words"), UNREACHABLE)
def test_failures(error: Exception, words: str) -> None:
    found = translated(error)
    assert type(found) is StoreUnreachableError
    assert words in found.message
    assert "gs://bucket/prefix" in found.message
    assert "SECRET" not in str(found)


def test_what_is_missing() -> None:
    missing = translated(api_error(api.NotFound, "No such object: bucket/prefix/refs/a/b"))
    assert isinstance(missing, ObjectNotFoundError)
    assert missing.key == "refs/a/b"
    for verb in ("read", "write", "list", "delete"):
        found = translated(api_error(api.NotFound, "The specified bucket does not exist."), verb=verb)
        assert isinstance(found, StoreUnreachableError)
        assert "no bucket gs://bucket" in found.message
        assert "gcloud storage buckets create gs://bucket" in found.hint


def test_a_lost_upload() -> None:
    assert isinstance(translated(SessionLostError(), verb="write"), UploadLostError)
