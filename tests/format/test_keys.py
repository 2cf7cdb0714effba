"""Where objects lie, and which names are allowed."""

from __future__ import annotations

import pytest

from fsd.errors import UsageError
from fsd.format import keys
from fsd.format.keys import ObjectKind
from fsd.stores.base import is_key

ID = bytes(range(32))
HEX = ID.hex()


def test_keys() -> None:
    found = {
        keys.object_key(ObjectKind.PAGE, ID): f"pages/00/{HEX}",
        keys.object_key(ObjectKind.INDEX, ID): f"pages/00/{HEX}",
        keys.object_key(ObjectKind.RECIPE, ID): f"recipes/00/{HEX}",
        keys.object_key(ObjectKind.COMMIT, ID): f"commits/{HEX}",
        keys.object_key(ObjectKind.SEGMENT, ID): f"logs/00/{HEX}",
        keys.pack_key(ID[:16]): f"packs/00/{HEX[:32]}",
        keys.moved_key(ID[:16]): f"moved/{HEX[:32]}",
        keys.ref_key("imagenet", "main"): "refs/imagenet/main",
        keys.STORE_MARKER: "fsd.json",
    }
    assert all(key == expected and is_key(key) for key, expected in found.items())
    assert keys.ref_key("imagenet", "main").startswith(keys.ref_prefix("imagenet"))
    assert not keys.ref_key("imagenet2", "main").startswith(keys.ref_prefix("imagenet"))


GOOD = ["a", "imagenet", "v1.2", "0", "A-b_c.d", "x" * 128, "abcdef", "12.5pctl", "pct"]
BAD = ["", ".a", "-a", "_a", "a/b", "a b", "a\n", "é", "a@b", "a+b", "x" * 129, "a\0", "..", "."]


@pytest.mark.parametrize("name", GOOD)
def test_good_names(name: str) -> None:
    assert keys.is_repository_name(name)
    assert keys.is_ref_name(name)
    keys.check_repository_name(name)
    keys.check_ref_name(name)


@pytest.mark.parametrize("name", BAD)
def test_bad_names(name: str) -> None:
    assert not keys.is_repository_name(name)
    assert not keys.is_ref_name(name)
    with pytest.raises(UsageError, match="name"):
        keys.check_repository_name(name)
    with pytest.raises(UsageError, match="name"):
        keys.check_ref_name(name)


@pytest.mark.parametrize("name", ["abcdef1", "0123456789", "f" * 64, "f" * 100, "ABCDEF1", "10pct", "0.5pct"])
def test_a_ref_looks_like_no_commit_and_no_built_in_subset(name: str) -> None:
    assert keys.is_repository_name(name)
    assert not keys.is_ref_name(name)
    with pytest.raises(UsageError):
        keys.check_ref_name(name)


def test_the_list_of_refs_has_its_name_to_itself() -> None:
    assert keys.is_ref_name("index")
    assert not keys.is_repository_name("index")
    with pytest.raises(UsageError, match="index"):
        keys.check_repository_name("index")


@pytest.mark.parametrize("name", [b"a", b"...", b" ", b"\n", b"\xff", b"x" * 255, b".git"])
def test_good_entry_names(name: bytes) -> None:
    keys.check_entry_name(name)


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"a\0", b"x" * 256])
def test_bad_entry_names(name: bytes) -> None:
    with pytest.raises(ValueError, match="entry name"):
        keys.check_entry_name(name)
