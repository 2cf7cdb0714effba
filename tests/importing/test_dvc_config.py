"""DVC's configuration, as DVC writes it."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from fsd.errors import UsageError
from fsd.importing.dvc_config import DvcConfig, Remote


def config(folder: Path, text: str, local: str = "") -> DvcConfig:
    """These files, read."""
    folder.mkdir(exist_ok=True)
    (folder / "config").write_text(text)
    (folder / "config.local").write_text(local)
    return DvcConfig(folder)


def test_a_folder(tmp_path: Path) -> None:
    found = config(tmp_path / ".dvc", "[core]\n    remote = r\n['remote \"r\"']\n    url = ../../remote\n")
    assert found.remote(None) == Remote("r", tmp_path.parent / "remote")
    assert found.cache_folder == tmp_path / ".dvc" / "cache"


def test_what_is_local_counts(tmp_path: Path) -> None:
    text = "['remote \"r\"']\n    url = /a\n['remote \"s\"']\n    url = /s\n"
    local = "[core]\n    remote = s\n[cache]\n    dir = /shared/cache\n['remote \"r\"']\n    url = /b\n"
    found = config(tmp_path, text, local)
    assert (found.remote("r"), found.remote(None)) == (Remote("r", Path("/b")), Remote("s", Path("/s")))
    assert found.cache_folder == Path("/shared/cache")


def test_which_remote_is_meant(tmp_path: Path) -> None:
    assert config(tmp_path, "").remote(None) is None
    assert config(tmp_path, "['remote \"only\"']\n    url = /x\n").remote(None) == Remote("only", Path("/x"))
    both = config(tmp_path, "['remote \"a\"']\n    url = /x\n['remote \"b\"']\n    url = /y\n")
    assert both.remote(None) is None
    with pytest.raises(UsageError, match="no DVC remote 'c'"):
        both.remote("c")
    with pytest.raises(UsageError, match="has no url"):
        config(tmp_path, "['remote \"a\"']\n    jobs = 1\n").remote("a")


def test_a_remote_upon_a_remote(tmp_path: Path) -> None:
    text = (
        "['remote \"base\"']\n    url = s3://bucket/a/\n    profile = p\n['remote \"b\"']\n    url = remote://base/b\n"
    )
    assert config(tmp_path, text).remote("b") == Remote("b", None, "s3://bucket/a/b", {"profile": "p"})


BASIC = base64.b64encode(b"ann:secret").decode()


@pytest.mark.parametrize(
    ("lines", "url", "options"),
    [
        (
            "url = s3://b/p\nendpointurl = http://here\nregion = eu\naccess_key_id = k\nsecret_access_key = s",
            "s3://b/p",
            {"endpoint_url": "http://here", "key": "k", "secret": "s", "client_kwargs": {"region_name": "eu"}},
        ),
        ("url = s3://b/p\nallow_anonymous_login = true", "s3://b/p", {"anon": True}),
        ("url = gs://b/p\nprojectname = x\ncredentialpath = /k", "gs://b/p", {"project": "x", "token": "/k"}),
        ("url = azure://c/p\naccount_name = a", "az://c/p", {"account_name": "a"}),
        ("url = https://h/p", "https://h/p", {}),
        (
            "url = https://h/p\nauth = basic\nuser = ann\npassword = secret",
            "https://h/p",
            {"headers": {"Authorization": f"Basic {BASIC}"}},
        ),
        (
            "url = https://h/p\nauth = custom\ncustom_auth_header = X-Key\npassword = secret",
            "https://h/p",
            {"headers": {"X-Key": "secret"}},
        ),
        ("url = ssh://h/p\nuser = ann\nport = 22", "sftp://h/p", {"username": "ann", "port": 22}),
    ],
)
def test_remotes_elsewhere(tmp_path: Path, lines: str, url: str, options: dict[str, Any]) -> None:
    indented = "\n".join(f"    {line}" for line in lines.splitlines())
    assert config(tmp_path, f"['remote \"r\"']\n{indented}\n").remote("r") == Remote("r", None, url, options)


def test_a_file_that_cannot_be_understood(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="config cannot be read"):
        config(tmp_path, "no section\n")
