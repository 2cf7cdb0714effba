"""DVC's configuration: where its cache and its remotes are."""

from __future__ import annotations

import base64
import configparser
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fsd.errors import UsageError

_FILES = ("config", "config.local")
"""In the order in which they count, in `.dvc`."""

_REMOTE = re.compile(r"""'?remote "(.*)"'?""")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")

_NAMES = {
    "s3": {
        "profile": "profile",
        "endpointurl": "endpoint_url",
        "access_key_id": "key",
        "secret_access_key": "secret",
        "session_token": "token",
    },
    "gs": {"projectname": "project", "credentialpath": "token", "endpointurl": "endpoint_url"},
    "azure": {
        name: name
        for name in ("connection_string", "account_name", "account_key", "sas_token", "tenant_id", "client_id")
    },
    "ssh": {"user": "username", "password": "password", "port": "port", "keyfile": "key_filename"},
}
"""DVC's name of an option, by scheme, and that of fsspec's file system."""

_FSSPEC_SCHEMES = {"azure": "az", "ssh": "sftp"}


@dataclass(frozen=True, slots=True)
class Remote:
    """Where contents are, beside the cache."""

    name: str
    folder: Path | None
    """If it is one of this machine;"""
    url: str = ""
    """else its URL, for fsspec,"""
    options: Mapping[str, Any] | None = None
    """with these options."""


class DvcConfig:
    """What `.dvc/config` and `.dvc/config.local` say."""

    def __init__(self, folder: Path) -> None:
        """`folder` is `.dvc`. Raises UsageError for a file that cannot be understood."""
        self._folder = folder
        self._sections: dict[str, dict[str, str]] = {}
        for name in _FILES:
            self._read(folder / name)

    def _read(self, path: Path) -> None:
        parser = configparser.RawConfigParser(strict=False, comment_prefixes=("#",), default_section="\0")
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError) as error:
            raise UsageError(f"{path} cannot be read: {error}", hint="look what 'dvc config --list' says") from error
        for section in parser.sections():
            self._sections.setdefault(section, {}).update(parser.items(section))

    @property
    def cache_folder(self) -> Path:
        """Where DVC keeps contents here."""
        return self._path(self._sections.get("cache", {}).get("dir", "cache"))

    def remote(self, name: str | None) -> Remote | None:
        """The remote of that name, or the usual one (None if there is none). Raises UsageError for an unknown name."""
        known = {match[1]: section for section in self._sections if (match := _REMOTE.fullmatch(section))}
        if name is None:
            name = self._sections.get("core", {}).get("remote")
        if name is None:
            if len(known) != 1:
                return None
            (name,) = known
        if name not in known:
            raise UsageError(f"there is no DVC remote {name!r}", hint="'dvc remote list' lists them")
        return self._described(name, dict(self._sections[known[name]]))

    def _described(self, name: str, section: dict[str, str]) -> Remote:
        url = section.get("url", "")
        if not url:
            raise UsageError(f"the DVC remote {name!r} has no url", hint="see 'dvc remote list'")
        if url.startswith("remote://"):
            parts = urlsplit(url)
            base = self.remote(parts.netloc)
            assert base is not None
            if base.folder is not None:
                return Remote(name, base.folder / parts.path.lstrip("/"))
            return Remote(name, None, base.url.rstrip("/") + parts.path, base.options)
        if not _SCHEME.match(url):
            return Remote(name, self._path(url))
        scheme = urlsplit(url).scheme
        as_fsspec = _FSSPEC_SCHEMES.get(scheme, scheme)
        return Remote(name, None, as_fsspec + url.removeprefix(scheme), _options(scheme, section))

    def _path(self, text: str) -> Path:
        return Path(os.path.normpath(self._folder / os.path.expanduser(text)))


def _options(scheme: str, section: Mapping[str, str]) -> dict[str, Any]:
    options: dict[str, Any] = {ours: section[name] for name, ours in _NAMES.get(scheme, {}).items() if name in section}
    is_anonymous = section.get("allow_anonymous_login", "").lower() == "true"
    if scheme == "s3":
        if "region" in section:
            options["client_kwargs"] = {"region_name": section["region"]}
        if is_anonymous:
            options["anon"] = True
    elif scheme == "gs" and is_anonymous:
        options["token"] = "anon"
    elif scheme in ("http", "https") and (header := _header(section)):
        options["headers"] = header
    if "port" in options:
        options["port"] = int(options["port"])
    return options


def _header(section: Mapping[str, str]) -> dict[str, str]:
    """What a web server is to be shown."""
    kind, password = section.get("auth"), section.get("password", "")
    if kind == "basic":
        word = base64.b64encode(f"{section.get('user', '')}:{password}".encode()).decode()
        return {"Authorization": f"Basic {word}"}
    if kind == "custom" and section.get("custom_auth_header"):
        return {section["custom_auth_header"]: password}
    return {}
