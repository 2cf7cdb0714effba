"""`refs/index`: what is written is read, and what is not right is refused."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import pytest

from fsd.errors import CorruptDataError
from fsd.format import refs_index
from fsd.format.fields import encode_json
from fsd.format.keys import is_ref_name, is_repository_name
from fsd.format.refs_index import IndexedRef, encode_refs_index, parse_refs_index
from fsd.ids import content_id

names = st.text(alphabet="AZaz09._-", min_size=1, max_size=8)
paths = st.builds("{}/{}".format, names.filter(is_repository_name), names.filter(is_ref_name))
refs = st.builds(
    IndexedRef, st.binary(min_size=32, max_size=32), st.integers(0, 1024 * 1024), st.text('"\\é0a', max_size=9)
)


@hypothesis.given(st.dictionaries(paths, refs, max_size=5))
def test_what_was_written_is_read(index: dict[str, IndexedRef]) -> None:
    data = encode_refs_index(index)
    assert parse_refs_index(data, "the index") == index
    assert list(parse_refs_index(data, "the index")) == sorted(index)
    for position in range(0, len(data), 7):
        damaged = bytearray(data)
        damaged[position] ^= 1
        with pytest.raises(CorruptDataError, match="the index"):
            parse_refs_index(bytes(damaged), "the index")
    with pytest.raises(CorruptDataError):
        parse_refs_index(data[:-1], "the index")


def sealed(body: object) -> bytes:
    line = encode_json(body)
    return line + b"\n" + content_id(line).hex().encode() + b"\n"


GOOD = {"blake3": "0" * 64, "size": 1, "version": "1"}


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {"refs": []},
        {"refs": {"no-slash": GOOD}},
        {"refs": {"a/b/c": GOOD}},
        {"refs": {"../main": GOOD}},
        {"refs": {"index/main": GOOD}},
        {"refs": {"data/abcdef0": GOOD}},
        {"refs": {"data/main": {**GOOD, "blake3": "0" * 63}}},
        {"refs": {"data/main": {**GOOD, "size": -1}}},
        {"refs": {"data/main": {**GOOD, "size": 1 << 40}}},
        {"refs": {"data/main": {**GOOD, "version": "v" * 257}}},
        {"refs": {"data/main": {"blake3": "0" * 64, "size": 1}}},
    ],
)
def test_what_is_not_right_is_refused(body: object) -> None:
    with pytest.raises(CorruptDataError):
        parse_refs_index(sealed(body), "the index")
    assert parse_refs_index(sealed({"refs": {"data/main": GOOD}, "more": 1}), "the index")


def test_there_is_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    index = {"data/main": IndexedRef(bytes(32), 1, "1")}
    data = encode_refs_index(index)
    monkeypatch.setattr(refs_index, "MAX_REFS_INDEX_BYTES", len(data))
    assert parse_refs_index(encode_refs_index(index), "the index") == index
    monkeypatch.setattr(refs_index, "MAX_REFS_INDEX_BYTES", len(data) - 1)
    with pytest.raises(ValueError, match="an index of 1 refs"):
        encode_refs_index(index)
    with pytest.raises(CorruptDataError):
        parse_refs_index(data, "the index")
