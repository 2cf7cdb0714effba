"""What went wrong between us and a server behind obstore, in the words of `fsd.errors`.

No message repeats what object_store, botocore or the server said: those hold URLs, and the URL of a conditional delete
is a secret. What is shown is put together here from status codes, the servers' error codes, and kinds of failures,
which object_store tells in the text of its errors only.
"""

from __future__ import annotations

import re
from http import HTTPStatus

from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from urllib3.exceptions import HTTPError

from fsd.errors import FsdError, StorePermissionError, StoreUnreachableError
from fsd.stores.base import ObjectNotFoundError
from fsd.stores.bucket import CHECK_NETWORK, UnusableAnswerError
from fsd.stores.obstore_bucket import NO_BUCKET, CannotSignError, GivenUpError, RefusedError
from fsd.stores.obstore_clouds import Cloud, CredentialsError, NoAccountError

FAILURES = (
    BaseError,
    HTTPError,
    OSError,
    UnusableAnswerError,
    GivenUpError,
    CannotSignError,
    RefusedError,
    CredentialsError,
    NoAccountError,
    # For what object_store thinks impossible.
    ValueError,
)
"""What the blocking half raises."""

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z]+)</Code>")
_HOST = re.compile(r"performing [A-Z]+ https?://(?:[^/@\s]*@)?([^/@\s]+)/")
_REGION = re.compile(r"<Region>([a-z0-9-]+)</Region>")

_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"}
_NOT_ACCEPTED = {
    "AuthenticationFailed",
    "AuthorizationFailure",
    "InvalidAccessKeyId",
    "InvalidAuthenticationInfo",
    "InvalidSecurity",
    "InvalidToken",
    "NoAuthenticationInformation",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
_WRONG_REGION = {"AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"}


def translate(error: Exception, verb: str, key: str, url: str, cloud: Cloud, *, is_anonymous: bool) -> FsdError:
    """The error to raise for `error`, which hindered us to `verb` the object `key` of the store `url`."""
    what = f"cannot {verb} {key} in {url}"
    text = str(error)
    match error:
        case CredentialsError():
            return StorePermissionError(f"{what}: the credentials cannot be used: {text}", hint=cloud.log_in)
        case NoAccountError():
            return StorePermissionError(
                f"{what}: nobody says which storage account that is", hint="set AZURE_STORAGE_ACCOUNT_NAME"
            )
        case CannotSignError():
            return StorePermissionError(
                f"{what}: a SAS token cannot delete an object at one version only",
                hint="use an account's key, a service principal or an identity for this",
            )
        case UnauthenticatedError() if "External" in text:
            return StorePermissionError(f"{what}: the credentials have expired or were revoked", hint=cloud.log_in)
    code = _CODE.search(text)
    status = _STATUS.search(text)
    refused = isinstance(error, PermissionDeniedError | UnauthenticatedError) or (
        status is not None and status[1] in ("401", "403")
    )
    if (code is not None and code[1] in _WRONG_REGION) or "redirect without LOCATION" in text:
        return _wrong_region(what, text)
    if refused or (code is not None and code[1] in _EXPIRED | _NOT_ACCEPTED):
        return _refused(what, code[1] if code else "", cloud, is_anonymous=is_anonymous)
    if NO_BUCKET.search(text):
        return _no_bucket(what, url, cloud)
    if isinstance(error, FileNotFoundError) and verb == "read":
        return ObjectNotFoundError(key, url)
    return StoreUnreachableError(f"{what}: {_reason(error, cloud)}", hint=CHECK_NETWORK)


def _refused(what: str, code: str, cloud: Cloud, *, is_anonymous: bool) -> StorePermissionError:
    said = f" ({code})" if code else ""
    if is_anonymous:
        return StorePermissionError(
            f"{what}: no credentials were found, and not everybody may{said}", hint=cloud.log_in
        )
    if code in _EXPIRED:
        return StorePermissionError(f"{what}: the credentials have expired{said}", hint=cloud.log_in)
    if code == "RequestTimeTooSkewed":
        return StorePermissionError(f"{what}: this machine's clock is wrong{said}", hint="set its time")
    if code in _NOT_ACCEPTED:
        return StorePermissionError(f"{what}: the credentials are not accepted{said}", hint=cloud.log_in)
    return StorePermissionError(f"{what}: access is denied{said}", hint=cloud.ask_for)


def _wrong_region(what: str, text: str) -> StorePermissionError:
    region = _REGION.search(text)
    return StorePermissionError(
        f"{what}: the bucket is in another region",
        hint=f"set AWS_REGION={region[1]}" if region else "set AWS_REGION to the bucket's",
    )


def _no_bucket(what: str, url: str, cloud: Cloud) -> StoreUnreachableError:
    bucket = url.split("/")[2]
    return StoreUnreachableError(
        f"{what}: there is no {cloud.bucket} {bucket}",
        hint=f"make it with: {cloud.make_bucket.format(bucket=bucket)}",
    )


def _reason(error: Exception, cloud: Cloud) -> str:
    """Why nothing came of a request, in a few words."""
    text = str(error)
    status = _STATUS.search(text)
    asked = _HOST.search(text)
    host = asked[1] if asked else cloud.name
    match error:
        case UnusableAnswerError():
            return f"the answer of {host} cannot be used: {error}"
        case GivenUpError():
            return "it was given up"
    if status is not None:
        return f"{host} answered {status[1]}{_phrase(int(status[1]))}"
    for words, said in _KINDS:
        if words.search(text):
            return said.format(host=host)
    return f"the connection to {host} broke"


_KINDS = (
    (re.compile(r"dns error|failed to lookup|NameResolution"), "the name of {host} cannot be resolved"),
    (re.compile(r"InvalidCertificate|UnknownIssuer"), "the certificate of {host} is not accepted"),
    (re.compile(r"kind: Timeout|TimedOut|timed out"), "{host} did not answer in time"),
    (re.compile(r"kind: Connect|Connection refused|NewConnection"), "{host} cannot be reached"),
    (re.compile(r"token request|az account get-access-token"), "the credentials cannot be renewed just now"),
)


def _phrase(status: int) -> str:
    try:
        return f" ({HTTPStatus(status).phrase})"
    except ValueError:
        return ""
