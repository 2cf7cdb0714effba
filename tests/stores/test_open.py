"""From what a user types to a store."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fsd.errors import NotFoundError, UsageError
from fsd.limits import DEFAULT_LIMITS
from fsd.stores.local import LocalStore
from fsd.stores.open import local_path, open_store


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/data/store", "/data/store"),
        ("/data/store/", "/data/store"),
        ("/data/../store", "/store"),
        ("file:///data/store", "/data/store"),
        ("FILE:///data/store/", "/data/store"),
        ("file://localhost/data/store", "/data/store"),
        ("file:///data/my%20store%3F", "/data/my store?"),
        ("/data/my store?#%20", "/data/my store?#%20"),
    ],
)
def test_names_of_a_folder(url: str, path: str) -> None:
    assert local_path(url) == Path(path)


def test_a_relative_path_counts_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert local_path("store") == tmp_path / "store"
    assert local_path("./a:b") == tmp_path / "a:b"


@pytest.mark.parametrize("url", ["gs://bucket/prefix", "s3://bucket", "https://host/store", "http://[broken"])
def test_what_is_elsewhere_is_no_folder(url: str) -> None:
    assert local_path(url) is None


def test_folders_open(tmp_path: Path) -> None:
    folder = tmp_path / "my store?"
    folder.mkdir()
    store = open_store(str(folder), DEFAULT_LIMITS)
    assert isinstance(store, LocalStore)
    assert store.url == f"file://{tmp_path}/my%20store%3F"
    assert isinstance(open_store(store.url, DEFAULT_LIMITS), LocalStore)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "empty"),
        ("ftp://host/store", r"no stores of the kind ftp:// in this version; it has az://, file://, gs://, http://"),
        ("gs3://bucket/prefix", "did you mean 's3' or 'gs'"),
        ("flie:///data", "did you mean 'file'"),
        ("gs://", "names no bucket"),
        ("file://host/data", "names no folder of this machine"),
        ("file://data", "names no folder of this machine"),
        ("file://[x/", "is no URL"),
        ("file:///data?x=1", r"holds a '\?' or '#'"),
    ],
)
def test_names_of_no_store(url: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_store(url, DEFAULT_LIMITS)


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotFoundError, match="file is not a folder"):
        open_store(str(tmp_path / "file"), DEFAULT_LIMITS)


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=f"fsd init {tmp_path}/missing"):
        open_store(str(tmp_path / "missing"), DEFAULT_LIMITS)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotFoundError):
        open_store(str(tmp_path / "file"), DEFAULT_LIMITS)


def test_a_vendors_library_is_loaded_for_its_stores_only(tmp_path: Path) -> None:
    program = f"""
import sys
from fsd.limits import DEFAULT_LIMITS
from fsd.stores.open import open_store
open_store({str(tmp_path)!r}, DEFAULT_LIMITS)
assert "google.cloud" not in sys.modules
assert open_store("gs://bucket/prefix/", DEFAULT_LIMITS).url == "gs://bucket/prefix"
assert "google.cloud" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize("url", ["s3://bucket/prefix", "az://container", "http://host/store", "https://host/store"])
def test_the_extra_is_named_where_it_is_missing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("fsd.stores.obstore")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(UsageError, match=r"pip install 'fsd\[obstore\]'"):
        open_store(url, DEFAULT_LIMITS)
