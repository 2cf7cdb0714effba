"""JSON is read strictly: each way in which Python's reader is lenient is closed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given

from fsd.format.fields import (
    as_free_mapping,
    as_id,
    as_integer,
    as_list,
    as_mapping,
    as_text,
    as_time,
    decode_json,
    encode_json,
    member,
)
from fsd.format.limits import MAX_JSON_DEPTH, MAX_TIME_US
from tests.format.strategies import json_objects


@given(json_objects)
def test_what_is_written_is_read(value: dict[str, object]) -> None:
    assert decode_json(encode_json(value)) == value


def test_there_is_one_form() -> None:
    assert encode_json({"b": [1, 2], "a": "é"}) == '{"a":"é","b":[1,2]}'.encode()


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), b"bytes", {1, 2}, {"a": 1, 2: 3}, "\ud800"], ids=lambda value: repr(value)
)
def test_what_json_cannot_hold_is_not_written(value: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        encode_json({"member": value})


def test_a_value_that_contains_itself_is_not_written() -> None:
    value: list[object] = []
    value.append(value)
    with pytest.raises(ValueError, match=r"."):
        encode_json(value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"1",
        b'"text"',
        b"null",
        b"{} {}",
        b"\xff",
        b"\xef\xbb\xbf{}",
        '{"a":1}'.encode("utf-16"),
        '{"a":1}'.encode("utf-32"),
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":1e999}',
        b'{"a":"\\ud800"}',
        b'{"\\uDFFF":1}',
        b'{"a":' + b"1" * 5000 + b"}",
        b'{"a":' * 100_000,
        b"[" * 100_000,
    ],
    ids=lambda data: repr(data[:20]),
)
def test_lenient_json_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        decode_json(data)
    assert type(caught.value) in (ValueError, json.JSONDecodeError)
    assert len(str(caught.value)) < 200


def test_a_pair_of_surrogate_escapes_is_one_character() -> None:
    assert decode_json(b'{"a":"\\ud83d\\ude00"}') == {"a": "😀"}


@pytest.mark.parametrize("value", [True, 1.0, "1", None, -1, 11])
def test_integers(value: object) -> None:
    assert as_integer(10, "ten", 0, 10) == 10
    with pytest.raises(ValueError, match="count is"):
        as_integer(value, "count", 0, 10)


def test_types() -> None:
    assert as_text("é", "text", 1) == "é"
    assert as_list([1], "list") == [1]
    assert as_mapping({"a": 1}, "mapping") == {"a": 1}
    assert as_id("00" * 32, "id") == bytes(32)
    assert as_time(MAX_TIME_US, "time") == MAX_TIME_US
    assert member({"a": None}, "a") is None
    for check, value in [
        (as_text, 1),
        (as_list, {}),
        (as_list, "ab"),
        (as_mapping, [["a", 1]]),
        (as_id, "0" * 63),
        (as_id, "A" * 64),
        (as_id, 5),
        (as_id, "0" * 1_000_000),
        (as_time, MAX_TIME_US + 1),
        (as_time, -1),
    ]:
        with pytest.raises(ValueError, match=r".") as caught:
            check(value, "it")  # type: ignore[operator]
        assert len(str(caught.value)) < 200
    with pytest.raises(ValueError, match="no 'b'"):
        member({"a": 1}, "b")


def test_free_members_have_a_depth() -> None:
    deep: object = 1
    for _ in range(MAX_JSON_DEPTH):
        deep = [deep]
    assert as_free_mapping({"a": deep[0]}, "metadata")  # type: ignore[index]
    with pytest.raises(ValueError, match="levels deep"):
        as_free_mapping({"a": deep}, "metadata")
    with pytest.raises(ValueError, match="levels deep"):
        as_free_mapping({"a": {"b": deep}}, "metadata")
