"""`fsd.json`."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsd.errors import CorruptDataError, UnsupportedFormatError
from fsd.format.chunker import ChunkerParams
from fsd.format.limits import MAX_MARKER_BYTES, MAX_TIME_US
from fsd.format.marker import DEFAULT_KEEP, StoreMarker, encode_marker, new_marker, parse_marker
from tests.format.samples import TIME_US, sample_marker

features = st.frozensets(st.text(), max_size=2)


@given(
    st.builds(
        StoreMarker,
        id=st.uuids().map(str),
        created_us=st.integers(0, MAX_TIME_US),
        read_features=features,
        write_features=features,
        gc_features=features,
        chunker=st.builds(ChunkerParams, st.integers(1024, 2**20), st.integers(0, 2**24)),
        keep=st.lists(st.text(), max_size=2).map(tuple),
    )
)
def test_round_trip(marker: StoreMarker) -> None:
    data = encode_marker(marker)
    assert parse_marker(data, "store") == marker
    assert encode_marker(parse_marker(data, "store")) == data


def test_a_new_store() -> None:
    marker = new_marker(TIME_US)
    assert parse_marker(encode_marker(marker), "store") == marker
    assert (marker.chunker, marker.keep) == (ChunkerParams(), DEFAULT_KEEP)
    assert marker.id != new_marker(TIME_US).id
    marker.check_readable("store")
    marker.check_writable("store")


def test_who_lacks_a_feature_says_so_and_stops() -> None:
    to_read = replace(sample_marker(), read_features=frozenset({"b", "a"}))
    to_write = replace(sample_marker(), write_features=frozenset({"c"}))
    with pytest.raises(UnsupportedFormatError, match="cannot read my store: it needs a, b"):
        to_read.check_readable("my store")
    with pytest.raises(UnsupportedFormatError, match="cannot write to my store: it needs a, b"):
        to_read.check_writable("my store")
    to_write.check_readable("my store")
    with pytest.raises(UnsupportedFormatError, match="needs c"):
        to_write.check_writable("my store")


def test_a_newer_version_is_not_corrupt() -> None:
    body = json.loads(encode_marker(sample_marker()))
    newer = {"format": "fsd", "version": 2, "whatever": "else"}
    with pytest.raises(UnsupportedFormatError, match="version 2"):
        parse_marker(json.dumps(newer).encode(), "my store")
    later = {**body, "unknown": 1, "defaults": {**body["defaults"], "unknown": 2}}
    assert parse_marker(json.dumps(later).encode(), "my store") == sample_marker()


BAD: dict[str, list[object]] = {
    "format": [None, "git", 1],
    "version": [None, "1", 0, -1, 1.0, True],
    "id": [None, 1, "", "not a uuid"],
    "created_us": [None, "1", -1, MAX_TIME_US + 1],
    "features": [None, [], {}, {"read": [], "write": []}, {"read": "ab", "write": [], "gc": []}],
    "defaults": [
        None,
        {},
        {"chunker": {}, "keep": []},
        {"chunker": {"average": 1024}, "keep": []},
        {"chunker": {"average": 1, "whole_file": 0}, "keep": []},
        {"chunker": {"average": 2**40, "whole_file": 0}, "keep": []},
        {"chunker": {"average": "1024", "whole_file": 0}, "keep": []},
        {"chunker": {"average": 1024.5, "whole_file": 0}, "keep": []},
        {"chunker": {"average": 1024, "whole_file": 0}, "keep": "*"},
        {"chunker": {"average": 1024, "whole_file": 0}, "keep": [1]},
    ],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_a_member_of_another_type_or_range(name: str, value: object) -> None:
    body: dict[str, Any] = json.loads(encode_marker(sample_marker()))
    with pytest.raises(CorruptDataError, match="my store") as caught:
        parse_marker(json.dumps(body | {name: value}).encode(), "my store")
    assert not isinstance(caught.value, UnsupportedFormatError)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b"[" * 50_000, b" " * (MAX_MARKER_BYTES + 1)])
def test_no_marker(data: bytes) -> None:
    with pytest.raises(CorruptDataError, match="my store"):
        parse_marker(data, "my store")
