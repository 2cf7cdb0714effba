"""Commits and subsets."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from fsd.errors import CorruptDataError, UsageError
from fsd.format.commit import Commit, check_words, encode_commit, parse_commit, tree_id
from fsd.format.index import Totals
from fsd.format.limits import MAX_HEADER_BYTES, MAX_JSON_DEPTH, MAX_TIME_US
from tests.format.samples import sample_children, sample_commit, sample_id, sample_subset
from tests.format.strategies import commits


@given(commits())
def test_round_trip(found: tuple[Commit, bytes]) -> None:
    commit, root = found
    logical = encode_commit(commit, root)
    parsed, index = parse_commit(logical)
    assert parsed == commit
    assert index.totals == commit.totals
    assert encode_commit(parsed, root) == logical


def test_a_subset_is_a_commit_of_another_kind() -> None:
    assert not sample_commit()[0].is_subset
    assert sample_subset()[0].is_subset
    assert sample_commit()[0].summary == "Add the cats"


def deep(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "changes",
    [
        {"tree": sample_id(1)},
        {"totals": Totals(1, 1, 1)},
        {"totals": Totals(-1, 0, 0)},
        {"repository": ""},
        {"repository": "a/b"},
        {"time_us": -1},
        {"time_us": MAX_TIME_US + 1},
        {"author": "\ud800"},
        {"message": "x" * MAX_HEADER_BYTES},
        {"parents": (b"short",)},
        {"metadata": {"a": float("nan")}},
        {"metadata": {"a": b"bytes"}},
        {"metadata": deep(MAX_JSON_DEPTH)},
    ],
)
def test_impossible_commits_are_not_written(changes: dict[str, Any]) -> None:
    commit, root = sample_commit()
    with pytest.raises(ValueError, match=r"."):
        encode_commit(replace(commit, **changes), root)


def test_what_is_deep_but_allowed() -> None:
    commit, root = sample_commit()
    commit = replace(commit, metadata=deep(MAX_JSON_DEPTH - 1))
    assert parse_commit(encode_commit(commit, root))[0] == commit


@pytest.mark.parametrize(
    ("message", "metadata"),
    [
        ("\udcff", {}),
        ("x" * MAX_HEADER_BYTES, {}),
        ("", {"a": b"bytes"}),
        ("", deep(MAX_JSON_DEPTH)),
        ("", {"a": "\ud800"}),
    ],
)
def test_words_that_no_commit_can_hold_are_a_users_error(message: str, metadata: dict[str, Any]) -> None:
    check_words("Grace", "Add “cats”\n\n" * 100, {"rows": 12})
    with pytest.raises(UsageError, match="message"):
        check_words("Grace", message, metadata)


def header_of(logical: bytes) -> tuple[dict[str, Any], bytes]:
    (length,) = struct.unpack_from("<I", logical, 8)
    return json.loads(logical[12 : 12 + length]), logical[12 + length :]


def with_header(header: object, root: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return b"fsdcomm1" + struct.pack("<I", len(text)) + text + root


def test_unknown_members_are_ignored() -> None:
    commit, root = sample_commit()
    header, _ = header_of(encode_commit(commit, root))
    assert parse_commit(with_header(header | {"later": [1]}, root))[0] == commit


BAD_VALUES: dict[str, list[object]] = {
    "repository": [None, 1, "", "a/b", "a\n", ["a"]],
    "tree": [None, 1, "00", "0" * 63 + "g", "A" * 64, [0] * 64, sample_id(1).hex()],
    "totals": [
        None,
        [],
        {},
        {"entries": 0, "files": 0},
        {"entries": "0", "files": 0, "bytes": 0},
        {"entries": 0.0, "files": 0, "bytes": 0},
        {"entries": False, "files": 0, "bytes": 0},
        {"entries": 0, "files": 0, "bytes": 2**64},
        {"entries": 1, "files": 1, "bytes": 1},
    ],
    "time_us": [None, "1", 1.5, True, -1, 10**400, MAX_TIME_US + 1],
    "author": [None, 1, ["a"], "\ud800"],
    "message": [None, 1, {}],
    "parents": [None, "00", [1], [None], ["00"], {"a": 1}],
    "metadata": [None, [["a", 1]], "a", deep(MAX_JSON_DEPTH)],
    "source": [1, "00", [], False],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD_VALUES.items() for value in values])
def test_a_member_of_another_type_or_range(name: str, value: object) -> None:
    header, root = header_of(encode_commit(*sample_commit()))
    with pytest.raises(CorruptDataError, match="commit") as caught:
        parse_commit(with_header(header | {name: value}, root))
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", [name for name in BAD_VALUES if name != "source"])
def test_a_member_that_is_not_there(name: str) -> None:
    header, root = header_of(encode_commit(*sample_commit()))
    del header[name]
    with pytest.raises(CorruptDataError, match=name):
        parse_commit(with_header(header, root))


def test_a_subset_without_a_rule() -> None:
    header, root = header_of(encode_commit(*sample_subset()))
    values: list[object] = [None, [], "x"]
    for value in values:
        with pytest.raises(CorruptDataError, match="rule"):
            parse_commit(with_header(header | {"rule": value}, root))


@pytest.mark.parametrize("header", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"totals":' * 10_000])
def test_a_header_that_is_no_object(header: bytes) -> None:
    with pytest.raises(CorruptDataError, match="commit"):
        parse_commit(with_header(header, b""))


def test_a_commit_of_other_lengths() -> None:
    logical = encode_commit(*sample_commit())
    for length in range(0, len(logical), 7):
        with pytest.raises(CorruptDataError, match=r"commit|index"):
            parse_commit(logical[:length])
    for length in (0, len(logical), MAX_HEADER_BYTES + 1, 2**32 - 1):
        with pytest.raises(CorruptDataError, match="commit"):
            parse_commit(logical[:8] + struct.pack("<I", length) + logical[12:])
    with pytest.raises(CorruptDataError, match="index"):
        parse_commit(logical + b"x")
    with pytest.raises(CorruptDataError, match="magic"):
        parse_commit(b"fsdcomm2" + logical[8:])


def test_a_root_is_named_by_the_header() -> None:
    commit, root = sample_commit()
    assert commit.tree == tree_id(root)
    other = root.replace(sample_children()[0].id, sample_id(99))
    with pytest.raises(CorruptDataError, match="root"):
        parse_commit(with_header(header_of(encode_commit(commit, root))[0], other))
