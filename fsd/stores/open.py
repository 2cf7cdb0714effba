"""From what a user types to a store. The only place that knows which kinds of stores there are."""

from __future__ import annotations

import importlib
import os
import re
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urlsplit

from fsd.errors import NotFoundError, StorePermissionError, StoreUnreachableError, UsageError, near_misses
from fsd.limits import Limits
from fsd.stores.base import Store
from fsd.stores.local import LocalStore

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def local_path(url: str) -> Path | None:
    """The folder that `url` names: a path, or a `file://` URL; None for a store elsewhere. Raises UsageError."""
    match = _SCHEME.match(url)
    if match is None:
        if not url:
            raise UsageError("the store's name is empty", hint="name a folder, or a URL such as file:///data/store")
        return Path(os.path.abspath(url))
    if match[1].lower() != "file":
        return None
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise UsageError(f"{url!r} is no URL: {error}", hint="write file:///absolute/path, or a plain path") from None
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise UsageError(
            f"{url!r} names no folder of this machine", hint="write file:///absolute/path, or a plain path"
        )
    if parts.query or parts.fragment:
        raise UsageError(f"{url!r} holds a '?' or '#'", hint="write it as %3F or %23, or give the plain path")
    return Path(os.path.abspath(unquote(parts.path)))


def open_store(url: str, limits: Limits) -> Store:
    """The store at `url`: a folder's path (relative ones count from the working directory) or a URL.

    Asks the place itself nothing, except that a folder must be there. Raises UsageError for a URL that is malformed or
    of a kind this version does not have, NotFoundError where there is no such folder, StoreUnreachableError where that
    cannot be seen.
    """
    match = _SCHEME.match(url)
    scheme = match[1].lower() if match else "file"
    if scheme == "file":
        return _open_local(url, limits)
    if scheme not in _REMOTE:
        schemes = ["file", *_REMOTE]
        known = ", ".join(f"{name}://" for name in sorted(schemes))
        # Of two letters, any other two are a near miss.
        guess = near_misses(scheme, schemes) if len(scheme) > 2 else ""
        raise UsageError(f"no stores of the kind {scheme}:// in this version; it has {known}", hint=guess)
    store: Store = _load(scheme).open_url(url, limits)
    return store


def _load(scheme: str) -> ModuleType:
    """The module that opens such stores. Raises UsageError where its library is not installed."""
    try:
        return importlib.import_module(_REMOTE[scheme])
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(str(error.name).split(".")[0])
        if extra is None:
            raise
        raise UsageError(
            f"stores of the kind {scheme}:// need a library that is not installed", hint=f"pip install 'fsd[{extra}]'"
        ) from None


def _open_local(url: str, limits: Limits) -> Store:
    path = local_path(url)
    assert path is not None
    try:
        is_folder = path.is_dir()
        is_there = path.exists()
    except PermissionError:
        raise StorePermissionError(f"no right to look at {path}", hint="check who owns the folders above it") from None
    except OSError as error:
        raise StoreUnreachableError(f"cannot look at {path}: {error.strerror}", hint="is its disk well?") from error
    if not is_there:
        raise NotFoundError(f"there is no folder {path}", hint=f"make a store there with: fsd init {path}")
    if not is_folder:
        raise NotFoundError(f"{path} is not a folder, so it is no store", hint="name the folder of a store")
    return LocalStore(path, limits)


_REMOTE = {
    "az": "fsd.stores.obstore_open",
    "gs": "fsd.stores.gcs",
    "http": "fsd.stores.obstore_open",
    "https": "fsd.stores.obstore_open",
    "s3": "fsd.stores.obstore_open",
}
"""The module for each scheme, which has `open_url(url, limits)`. Loaded when such a store is opened: a vendor's library
takes longer to load than all of fsd. A new kind of store is a line here."""

_EXTRAS = {"botocore": "obstore", "obstore": "obstore"}
"""The extra that brings a library which not every installation has."""
