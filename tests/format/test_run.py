"""Run records come back as they were written, and what is none is refused."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsd.errors import CorruptDataError
from fsd.format.inputs import Inputs, ListingInputs, NameInputs, VersionInputs, decode_inputs, encode_inputs
from fsd.format.positions import Stretches, stretches_of
from fsd.format.run import (
    END_MAGIC,
    START_MAGIC,
    RunEnd,
    RunName,
    RunPin,
    RunProcess,
    RunStart,
    StoredTree,
    encode_run_end,
    encode_run_start,
    parse_run_end,
    parse_run_key,
    parse_run_start,
)
from fsd.format.sealed import seal_list, unseal_list

NAME = RunName("digits", "5" * 32, "a" * 16)
TREE = StoredTree(b"c" * 32, b"t" * 32)
START = RunStart(
    name=NAME,
    time_us=1_795_305_600_000_000,
    argv=("python", "train.py"),
    directory="src",
    process=RunProcess("host", "boot", 12, 345),
    label="first",
    author="Ada",
    code=TREE,
    git={"commit": "abc", "branch": "main", "is_changed": True},
    params={"train.lr": 0.1, "seed": 3, "fast": False, "name": "x", "none": None},
    overrides=("seed",),
    pins=(RunPin("data", "imagenet", "v1", "", b"p" * 32), RunPin("gone", "imagenet", "v9", "train", None)),
    outputs=("out",),
    environment={"python": {"version": "3.11"}},
)
END = RunEnd(
    name=NAME,
    time_us=1_795_305_700_000_000,
    code=0,
    metrics={"accuracy": 0.9, "steps": 100},
    params={"depth": 3},
    outputs=TREE,
    files=StoredTree(b"f" * 32, b"u" * 32),
    inputs=Inputs(
        versions=(
            VersionInputs(
                "digits", "v1", b"i" * 32, stretches_of([0, 1, 2, 900_000]), stretches_of([0]), (b"train/x", b"\xff")
            ),
            VersionInputs("other", "6a" * 32, b"j" * 32, (), (), (), is_identified=True),
        ),
        names=(
            NameInputs("digits", "", ""),
            NameInputs("digits", "main", "6a" * 32),
            NameInputs("digits", "v9", None),
        ),
        listings=(ListingInputs("", b"l" * 32), ListingInputs("digits", b"m" * 32)),
        problem="a reason",
    ),
)


def of_version(seen: Stretches, listed: Stretches = (), missing: tuple[bytes, ...] = ()) -> VersionInputs:
    return VersionInputs("digits", "v1", b"i" * 32, seen, listed, missing)


scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(st.characters(codec="utf-8"), max_size=9)
scalars |= st.floats(allow_nan=False, allow_infinity=False)
names = st.text(st.characters(codec="utf-8"), max_size=9)


def test_records_come_back() -> None:
    assert parse_run_start(encode_run_start(START), "it") == START
    assert parse_run_end(encode_run_end(END), "it") == END


@given(st.dictionaries(names, scalars), st.lists(names, max_size=3), names)
def test_whatever_is_said_of_a_run_comes_back(params: dict[str, str], argv: list[str], label: str) -> None:
    start = replace(START, params=params, argv=tuple(argv), label=label, code=None, git=None, pins=())
    assert parse_run_start(encode_run_start(start), "it") == start


@given(st.sets(st.integers(0, 5000)), st.sets(st.integers(0, 50)), st.lists(st.binary(min_size=1, max_size=9)))
def test_inputs_come_back(seen: set[int], listed: set[int], missing: list[bytes]) -> None:
    paths = tuple(path.replace(b"\0", b"") or b"x" for path in missing)
    version = VersionInputs("digits", "v1", b"i" * 32, stretches_of(seen), stretches_of(listed), paths)
    inputs = Inputs((version, version))
    assert decode_inputs(encode_inputs(inputs), "it") == inputs
    end = replace(END, inputs=inputs)
    assert parse_run_end(encode_run_end(end), "it") == end


def test_what_is_kept_for_a_run() -> None:
    assert START.commits == {b"c" * 32, b"p" * 32}
    assert END.commits == {b"c" * 32, b"f" * 32, b"i" * 32, b"j" * 32}
    assert replace(START, code=None, pins=()).commits == frozenset()


def test_a_million_inputs_are_few_bytes() -> None:
    dense = of_version(((1, 1_280_001),), ((0, 1),))
    assert len(encode_run_end(replace(END, inputs=Inputs((dense,))))) < 1000
    chosen = random.Random(1).sample(range(1, 1_280_001), 128_000)
    spread = of_version(stretches_of(chosen))
    assert len(encode_run_end(replace(END, inputs=Inputs((spread,))))) < 300_000


@pytest.mark.parametrize(
    "end",
    [
        replace(END, metrics={"loss": float("nan")}),
        replace(END, code=-1),
        replace(END, inputs=Inputs((of_version(())._replace(commit=b"short"),))),
        replace(END, inputs=Inputs((of_version(((1, 1),)),))),
        replace(END, inputs=Inputs((of_version((), (), (b"a\0b",)),))),
        replace(END, inputs=Inputs(names=(NameInputs("digits", "\ud800", None),))),
        replace(END, inputs=Inputs(listings=(ListingInputs("digits", b"short"),))),
        replace(END, problems=("\ud800",)),
    ],
)
def test_what_could_not_be_read_is_not_written(end: RunEnd) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each has words of its own
        encode_run_end(end)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"code":0', b'"code":"'),
        (b'"identified":true', b'"identified":1234'),
        (b'["digits","main",', b'["digits",null,'),
        (b'["digits","main",', b'["digits",'),
        (b'"problem":"a', b'"problem":["'),
        (b'"accuracy":0.9', b'"accuracy":"9"'),
        (b'"repository":"digits"', b'"repository":"../../"'),
        (b'"bytes":[6,', b'"bytes":[7,'),
        (b'"bytes":[6,', b'"bytes":[5,'),
        (b'"depth":3', b'"depth":[]'),
        (b'"files":{', b'"filez":{'),
    ],
)
def test_damage_with_a_right_checksum_is_refused(old: bytes, new: bytes) -> None:
    body = unseal_list(END_MAGIC, encode_run_end(END), "it", 10**6)
    assert old in body
    changed = body.replace(old, new)
    length = int.from_bytes(body[:4], "little") + len(new) - len(old)
    changed = length.to_bytes(4, "little") + changed[4:]
    with pytest.raises(CorruptDataError):
        parse_run_end(seal_list(END_MAGIC, changed, 10**6), "it")


def test_any_damage_is_noticed() -> None:
    rng = random.Random(7)
    for meant, data, parse in (
        (START, encode_run_start(START), parse_run_start),
        (END, encode_run_end(END), parse_run_end),
    ):
        for _ in range(300):
            changed = bytearray(data)
            changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            # Not every bit of a zstd frame bears on what comes out of it.
            with suppress(CorruptDataError):
                assert parse(bytes(changed), "it") == meant
        for size in range(0, len(data), 7):
            with pytest.raises(CorruptDataError):
                parse(data[:size], "it")


def test_a_start_is_no_end() -> None:
    with pytest.raises(CorruptDataError):
        parse_run_end(encode_run_start(START), "it")
    body = unseal_list(END_MAGIC, encode_run_end(END), "it", 10**6)
    with pytest.raises(CorruptDataError):
        parse_run_start(seal_list(START_MAGIC, body, 10**6), "it")


def test_keys() -> None:
    for part in ("start", "end"):
        assert parse_run_key(NAME.key(part)) == (NAME, part)
    for key in ("runs/digits/55/aa.start", NAME.key("other"), "runs/index/" + NAME.key("end")[12:], "refs/a/b"):
        assert parse_run_key(key) is None
