"""The server of a Git LFS repository, by LFS's batch API: it is asked where objects are, then for them.

Who we are is what the URL says, or what `git credential` knows without asking anybody.
"""

from __future__ import annotations

import base64
import json
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import unquote, urlsplit, urlunsplit

from fsd.errors import StorePermissionError
from fsd.importing.asking import asked, without_secrets
from fsd.importing.git import GitRepository
from fsd.publish.source import UnreadableError

_TYPE = "application/vnd.git-lfs+json"
_ASKED_AT_ONCE = 100
"""What servers take in one request."""
_TIMEOUT_S = 60.0
_REFUSED = (401, 403)
_MAX_ANSWER_BYTES = 16 * 1024 * 1024


class Link(NamedTuple):
    """Where an object is to be had, for some minutes."""

    url: str
    headers: Mapping[str, str]


class LfsServer:
    """Asks nobody before it is needed. Safe to use from many threads."""

    def __init__(self, folder: Path, git: GitRepository) -> None:
        self._folder = folder
        self._git = git
        self._url = self._find()
        self._lock = threading.Lock()
        self._headers: dict[str, str] = {}
        self.folders: list[str] = []
        """LFS's folders in a remote that is a repository of this machine."""
        parts = urlsplit(self._url)
        if parts.scheme in ("", "file"):
            top = Path(folder, unquote(parts.path))
            self.folders = [str(top / ".git" / "lfs"), str(top / "lfs")]

    @property
    def shown(self) -> str:
        """What it is called."""
        return without_secrets(self._url) if self._url else "any server"

    def links(self, sizes: Mapping[str, int]) -> dict[str, Link]:
        """Where the objects are that the server has, of these (SHA-256 and size). Raises FsdError."""
        if urlsplit(self._url).scheme not in ("http", "https"):
            return {}
        found: dict[str, Link] = {}
        wanted = [{"oid": oid, "size": size} for oid, size in sizes.items()]
        for start in range(0, len(wanted), _ASKED_AT_ONCE):
            found |= self._batch(wanted[start : start + _ASKED_AT_ONCE])
        return found

    def _batch(self, wanted: list[dict[str, Any]]) -> dict[str, Link]:
        body = {"operation": "download", "transfers": ["basic"], "objects": wanted, "hash_algo": "sha256"}
        answer = asked(self.shown, lambda: self._post(json.dumps(body).encode()))
        found: dict[str, Link] = {}
        for each in answer.get("objects") or ():
            download = (each.get("actions") or {}).get("download")
            if download is not None:
                headers = {str(name): str(value) for name, value in (download.get("header") or {}).items()}
                if each.get("authenticated") is not True and _host(download["href"]) == _host(self._url):
                    headers = {**self._headers, **headers}
                found[str(each["oid"])] = Link(str(download["href"]), headers)
        return found

    def _post(self, body: bytes) -> dict[str, Any]:
        known = self._headers
        try:
            return self._post_once(body, known)
        except StorePermissionError:
            with self._lock:
                if self._headers is known:  # no other thread has found out meanwhile
                    self._headers = self._credentials()
            if self._headers == known:
                raise
            return self._post_once(body, self._headers)

    def _post_once(self, body: bytes, known: Mapping[str, str]) -> dict[str, Any]:
        headers = {"Accept": _TYPE, "Content-Type": _TYPE, **known}
        address = f"{_without_user(self._url).rstrip('/')}/objects/batch"
        with _open(Link(address, headers), self.shown, body) as response:
            answer = json.loads(response.read(_MAX_ANSWER_BYTES))
        return answer if isinstance(answer, dict) else {}

    def _credentials(self) -> dict[str, str]:
        """What identifies us to the server; nothing where nobody knows."""
        parts = urlsplit(self._url)
        user, password = parts.username, parts.password
        if password is None:
            asks = f"protocol={parts.scheme}\nhost={_host(self._url)}\npath={parts.path.lstrip('/')}\n"
            asks += f"username={user}\n\n" if user else "\n"
            command = ["env", "GIT_TERMINAL_PROMPT=0", "git", "-C", str(self._folder), "-c", "core.askPass=true"]
            told = subprocess.run(
                [*command, "credential", "fill"], input=asks.encode(), capture_output=True, check=False
            )
            fields = dict(line.partition("=")[::2] for line in told.stdout.decode().splitlines())
            user, password = fields.get("username"), fields.get("password")
        if not user or not password:
            return {}
        word = base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
        return {"Authorization": f"Basic {word}"}

    def _find(self) -> str:
        """Its URL, or a folder; '' if there is none."""
        git, remote = self._git, self._remote()
        for told in (
            git.config("lfs.url"),
            git.config("-f", str(self._folder / ".lfsconfig"), "lfs.url"),
            git.config("--blob", "HEAD:.lfsconfig", "lfs.url"),
            git.config(f"remote.{remote}.lfsurl"),
        ):
            if told:
                return told
        url = git.config(f"remote.{remote}.url") or ""
        if urlsplit(url).scheme not in ("http", "https"):
            return url
        return url.rstrip("/").removesuffix(".git") + ".git/info/lfs"

    def _remote(self) -> str:
        names = (self._git.config("--get-regexp", "--name-only", r"^remote\..*\.url$") or "").splitlines()
        known = [name.removeprefix("remote.").removesuffix(".url") for name in names]
        return known[0] if len(known) == 1 else "origin"


class RemoteObject:
    """An object from the server, from its start to its end; a connection that breaks is taken up where it was."""

    def __init__(self, link: Link, what: str, size: int) -> None:
        self._link = link
        self._what = what
        self._size = size
        self._at = 0
        self._response: HTTPResponse | None = None

    def read(self, size: int, /) -> bytes:
        """At most so many bytes more. Raises FsdError."""
        data = asked(self._what, lambda: self._read(size))
        self._at += len(data)
        return data

    def _read(self, size: int) -> bytes:
        try:
            if self._response is None:
                resumed = {"Range": f"bytes={self._at}-"} if self._at else {}
                self._response = _open(Link(self._link.url, {**self._link.headers, **resumed}), self._what)
                if self._at and self._response.status != 206:
                    raise UnreadableError(
                        f"the server does not go on within {self._what}", hint="import again, and it is read anew"
                    )
            data = self._response.read(size)
            if not data and size and self._at < self._size:
                raise ConnectionError("the connection broke")
            return data
        except Exception:
            self.close()
            raise

    def close(self) -> None:
        """Let the connection go."""
        response, self._response = self._response, None
        if response is not None:
            with suppress(OSError):
                response.close()


def _open(link: Link, what: str, body: bytes | None = None) -> HTTPResponse:
    request = urllib.request.Request(link.url, data=body, headers=dict(link.headers))
    if urlsplit(link.url).scheme not in ("http", "https"):
        raise UnreadableError(f"{what} is at {without_secrets(link.url)!r}, which is no web address", hint="fetch it")
    try:
        return cast("HTTPResponse", urllib.request.urlopen(request, timeout=_TIMEOUT_S))
    except urllib.error.HTTPError as error:
        with error:
            raise _refused(error, what) from error


def _refused(error: urllib.error.HTTPError, what: str) -> Exception:
    if error.code in _REFUSED:
        return StorePermissionError(
            f"no right to read {what}: the server answers {error.code}", hint="let Git know your credentials for it"
        )
    if error.code == 404:
        return FileNotFoundError(what)
    return ConnectionError(f"the server answers {error.code} {error.reason}")


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def _without_user(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=_host(url)))
