"""What went wrong between us and Google Cloud Storage, in the words of `fsd.errors`.

No message repeats what a library or the server said: those hold URLs, and the URL of a resumable upload is a secret.
What is shown is put together here from status codes, names of permissions, and the kinds of exceptions.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from ssl import SSLCertVerificationError

from google.api_core.exceptions import GoogleAPICallError
from google.auth.exceptions import GoogleAuthError, InvalidOperation, RefreshError, TransportError
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from requests.exceptions import RequestException
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ReadTimeoutError,
)

from fsd.errors import FsdError, StorePermissionError, StoreUnreachableError
from fsd.stores.base import ObjectNotFoundError
from fsd.stores.bucket import CHECK_NETWORK, UnusableAnswerError
from fsd.stores.gcs_bucket import NoCredentialsError, SessionLostError
from fsd.stores.gcs_exchange import BrokenOffError


class UploadLostError(StoreUnreachableError):
    """An upload that cannot be taken up where it broke off. One from its start may work."""


FAILURES = (
    GoogleAPICallError,
    GoogleAuthError,
    DataCorruption,
    InvalidResponse,
    RequestException,
    HTTPError,
    OSError,
    UnusableAnswerError,
    NoCredentialsError,
    SessionLostError,
    # For headers and JSON that are not what they should be.
    ValueError,
)
"""What the blocking half raises."""

LOG_IN = "run 'gcloud auth application-default login', or name a key file in GOOGLE_APPLICATION_CREDENTIALS"

_PERMISSION = re.compile(r"\bstorage\.[a-zA-Z]+\.[a-zA-Z]+\b")
_NO_BUCKET = re.compile(r"bucket does not exist", re.IGNORECASE)
_TOO_FAST = {"rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded", "dailyLimitExceeded"}
"""Why a 403 may be no refusal for ever."""


def translate(error: Exception, verb: str, key: str, url: str, host: str, *, is_anonymous: bool) -> FsdError:
    """The error to raise for `error`, which hindered us to `verb` the object `key` of the store `url`."""
    what = f"cannot {verb} {key} in {url}"
    match error:
        case NoCredentialsError():
            return StorePermissionError(f"{what}: the credentials cannot be used: {error}", hint=LOG_IN)
        case RefreshError() if not error.retryable:
            return StorePermissionError(f"{what}: the credentials have expired or were revoked", hint=LOG_IN)
        case InvalidOperation():
            return _refused(what, 401, "", is_anonymous=is_anonymous)
        case GoogleAPICallError() if error.code in (401, 403) and not _is_too_fast(error):
            return _refused(what, int(error.code), str(error.message), is_anonymous=is_anonymous)
        case GoogleAPICallError() if error.code == 404:
            return _not_found(verb, key, url, what, str(error.message))
        case SessionLostError():
            return UploadLostError(f"{what}: the server has forgotten the upload", hint="try again")
    return StoreUnreachableError(f"{what}: {_reason(error, host)}", hint=CHECK_NETWORK)


def _refused(what: str, status: int, message: str, *, is_anonymous: bool) -> StorePermissionError:
    found = _PERMISSION.search(message)
    missing = f" (permission {found[0]})" if found else ""
    if is_anonymous:
        return StorePermissionError(f"{what}: no credentials were found, and not everybody may{missing}", hint=LOG_IN)
    if status == 401:
        return StorePermissionError(f"{what}: the credentials are not accepted", hint=LOG_IN)
    return StorePermissionError(
        f"{what}: access is denied{missing}", hint="ask the bucket's owner for a role such as Storage Object User"
    )


def _not_found(verb: str, key: str, url: str, what: str, message: str) -> FsdError:
    if verb == "read" and _NO_BUCKET.search(message) is None:
        return ObjectNotFoundError(key, url)
    bucket = "/".join(url.split("/")[:3])
    return StoreUnreachableError(
        f"{what}: there is no bucket {bucket}", hint=f"make it with: gcloud storage buckets create {bucket}"
    )


def _is_too_fast(error: GoogleAPICallError) -> bool:
    reasons = {str(each.get("reason")) for each in error.errors if isinstance(each, dict)}
    return error.code == 403 and bool(reasons & _TOO_FAST)


def _reason(error: Exception, host: str) -> str:
    """Why nothing came of a request, in a few words."""
    if isinstance(error, GoogleAPICallError | InvalidResponse):
        return f"{host} answered {_status(error)}"
    if isinstance(error, UnusableAnswerError):
        return f"the answer of {host} cannot be used: {error}"
    if isinstance(error, DataCorruption):
        return "it was damaged on its way"
    cause = _root(error)
    match cause:
        case NameResolutionError():
            return f"the name of {host} cannot be resolved"
        case NewConnectionError() | ConnectionRefusedError():  # the former is a ConnectTimeoutError as well
            return f"{host} cannot be reached"
        case ConnectTimeoutError() | ReadTimeoutError() | TimeoutError():
            return f"{host} did not answer in time"
        case SSLCertVerificationError():
            return f"the certificate of {host} is not accepted"
        case BrokenOffError():
            return "it was given up"
    if isinstance(error, TransportError | RefreshError):
        return "the credentials cannot be renewed just now"
    if isinstance(error, RequestException | HTTPError | OSError):
        return f"the connection to {host} broke"
    return f"the answer of {host} cannot be understood ({type(error).__name__})"


def _status(error: GoogleAPICallError | InvalidResponse) -> str:
    code = error.code if isinstance(error, GoogleAPICallError) else getattr(error.response, "status_code", None)
    try:
        return f"{int(code)} ({HTTPStatus(int(code)).phrase})" if code else "with an error"
    except ValueError:
        return f"with status {code}"


def _root(error: BaseException) -> BaseException:
    """What the libraries have wrapped: requests around urllib3 around the system's."""
    seen: set[int] = set()
    while id(error) not in seen:
        seen.add(id(error))
        inner = getattr(error, "reason", None)
        if not isinstance(inner, BaseException):
            inner = next((each for each in error.args if isinstance(each, BaseException)), None)
        if inner is not None:
            error = inner
    return error
