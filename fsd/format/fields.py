"""JSON inside objects: written in one form, read strictly.

Python's reader takes more than JSON (NaN, lone surrogates, UTF-16) and its types hide more (`True` is a number, `1e999`
becomes infinity). What passes here is plain JSON of bounded depth, in UTF-8, whose members have the type and range that
the format says; everything else is a ValueError with a short message, which the caller turns into its own error.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from fsd.format.columns import MAX_U64
from fsd.format.limits import MAX_JSON_DEPTH, MAX_TIME_US
from fsd.ids import ID_HEX_DIGITS, Buffer, parse_id

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_SHOWN_CHARACTERS = 40


def encode_json(value: Any) -> bytes:
    """UTF-8 with sorted members and no spaces. Raises ValueError for what JSON cannot hold."""
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()
    except UnicodeEncodeError:
        raise ValueError("a text that is not UTF-8") from None
    except (TypeError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from error


def decode_json(data: Buffer) -> dict[str, Any]:
    """The JSON object in `data`. Raises ValueError."""
    return as_mapping(decode_json_value(data), "the whole")


def decode_json_value(data: Buffer) -> Any:
    """The JSON value in `data`. Raises ValueError."""
    try:
        text = str(data, "utf-8")
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_parse_float)
        if _SURROGATE.search(data):
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeError:
        # Its own message would quote all of the data.
        raise ValueError("not UTF-8") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _parse_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{_shown(text)} is out of range")
    return number


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def member(body: Mapping[str, Any], name: str) -> Any:
    """A member that must be there."""
    try:
        return body[name]
    except KeyError:
        raise ValueError(f"no {name!r}") from None


def as_mapping(value: object, what: str) -> dict[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise ValueError(f"{what} is {_shown(value)}, not an object")
    return value


def as_free_mapping(value: object, what: str) -> dict[str, Any]:
    """A JSON object of whatever members, nested no deeper than the format allows."""
    body = as_mapping(value, what)
    _check_depth(body, what, MAX_JSON_DEPTH)
    return body


def _check_depth(value: object, what: str, levels: int) -> None:
    inner: list[object]
    if isinstance(value, dict):
        inner = list(value.values())
    elif isinstance(value, list):
        inner = value
    else:
        return
    if levels == 0:
        raise ValueError(f"{what} is nested more than {MAX_JSON_DEPTH} levels deep")
    for each in inner:
        _check_depth(each, what, levels - 1)


def as_list(value: object, what: str) -> list[Any]:
    """A JSON list."""
    if not isinstance(value, list):
        raise ValueError(f"{what} is {_shown(value)}, not a list")
    return value


def as_text(value: object, what: str, most_characters: int | None = None) -> str:
    """A string."""
    if not isinstance(value, str) or (most_characters is not None and len(value) > most_characters):
        raise ValueError(f"{what} is {_shown(value)}, not a text of the allowed length")
    return value


def as_integer(value: object, what: str, least: int = 0, most: int = MAX_U64) -> int:
    """A whole number between `least` and `most`."""
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{what} is {_shown(value)}, not a whole number in its range")
    return value


def as_time(value: object, what: str) -> int:
    """Microseconds since 1970 UTC, up to where calendars end."""
    return as_integer(value, what, 0, MAX_TIME_US)


def as_id(value: object, what: str) -> bytes:
    """32 bytes written in hex."""
    return parse_id(as_text(value, what, ID_HEX_DIGITS))
