"""What may be written. (`test_page` has each impossible entry; here is what cannot be seen from there.)"""

from __future__ import annotations

import pytest

from fsd.format.entries import check_entries, is_directory_path
from tests.format.samples import sample_entries, sample_file


def test_the_samples_are_allowed() -> None:
    check_entries(sample_entries())
    check_entries([])


@pytest.mark.parametrize("path", [b"", b"a", b"a/b", b".a/...", b"x" * 255])
def test_directory_paths(path: bytes) -> None:
    assert is_directory_path(path)


@pytest.mark.parametrize("path", [b"/", b".", b"a/", b"/a", b"a/./b", b"../a", b"x" * 256, b"a/" * 20_000 + b"a"])
def test_no_directory_paths(path: bytes) -> None:
    assert not is_directory_path(path)


def test_an_error_names_the_path() -> None:
    with pytest.raises(ValueError, match="some/where/it"):
        check_entries([sample_file(b"some/where", b"it", 5)._replace(size=6)])
