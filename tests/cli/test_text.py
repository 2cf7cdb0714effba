"""Names, sizes, times and tables."""

from __future__ import annotations

import json

import hypothesis
import hypothesis.strategies as st
import pytest

from fsd_cli.text import (
    Column,
    bytes_of,
    date_in_revision,
    duration,
    fit,
    json_time,
    local_time,
    one_line,
    pad,
    shown,
    table,
    text_of,
    width,
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"train/x.jpg", "train/x.jpg"),
        (b"with space", "with space"),
        ("naïve 数据".encode(), "naïve 数据"),
        (b"a\\b", "a\\b"),
        (b"a\nb", '"a\\nb"'),
        (b"a\\\nb", '"a\\\\\\nb"'),
        (b'"', '"\\""'),
        (b"\x1b[2Jgone", '"\\x1b[2Jgone"'),
        (b"latin \xe9", '"latin \\xe9"'),
        ("rtl \u202e gpj".encode(), '"rtl \\u202e gpj"'),
        (b"\x7f\r\t", '"\\x7f\\r\\t"'),
        ("c1 \x9b1m".encode(), '"c1 \\u009b1m"'),
    ],
)
def test_shown(name: bytes, expected: str) -> None:
    assert shown(name) == expected


@hypothesis.given(st.binary(min_size=1))
def test_any_name_is_shown_on_one_printable_line(name: bytes) -> None:
    assert shown(name).isprintable()
    assert one_line(text_of(name)).isprintable()


@hypothesis.given(st.binary(), st.binary())
def test_different_names_look_different(one: bytes, other: bytes) -> None:
    assert (shown(one) == shown(other)) == (one == other)


@hypothesis.given(st.binary())
def test_names_survive_json_and_the_command_line(name: bytes) -> None:
    text = text_of(name)
    assert json.loads(json.dumps(text)).encode("utf-8", "surrogateescape") == name
    assert bytes_of(text) == name


@pytest.mark.parametrize(
    ("text", "cells"), [("plain", 5), ("数据", 4), ("e\u0301", 1), ("", 0), ("ﾊ", 1), ("\N{GRINNING FACE}", 2)]
)
def test_width(text: str, cells: int) -> None:
    assert width(text) == cells


@hypothesis.given(st.text(alphabet="aé数据\u0301", max_size=12), st.integers(0, 30))
def test_fit_and_pad_keep_to_the_cells(text: str, cells: int) -> None:
    cut = fit(text, cells)
    assert width(cut) <= cells
    assert cut == text or width(text) > cells
    assert width(pad(cut, cells)) == cells


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (8040, "2 h 14 min")],
)
def test_duration(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


def test_times() -> None:
    assert json_time(1_794_904_200_000_001) == "2026-11-17T08:30:00.000001Z"
    assert len(local_time(1_794_904_200_000_000)) == len("2026-11-17 09:30:00")


@pytest.mark.parametrize("time_us", [-(2**200), -1, 0, 2**63, 2**200])
def test_no_time_is_too_odd_to_show(time_us: int) -> None:
    assert local_time(time_us)
    assert json_time(time_us).endswith("Z")


def test_table() -> None:
    lines = table(
        [Column("NAME"), Column("SIZE", right=True), Column("ABOUT")], [["数", "1 B", "x"], ["bb", "10 B", ""]]
    )
    assert lines == ["NAME  SIZE  ABOUT", "数     1 B  x", "bb    10 B"]


def test_table_cuts_the_last_column_only() -> None:
    rows = [["name", "a long line about it"]]
    assert table([Column("N"), Column("ABOUT")], rows, cells=16)[1] == "name  a long li…"
    assert table([Column("N"), Column("ABOUT")], rows, cells=3)[1] == "name  a long …"
    assert table([Column("N"), Column("ABOUT")], rows)[1] == "name  a long line about it"


def test_table_without_rows() -> None:
    assert table([Column("A"), Column("B")], []) == ["A  B"]


def test_a_date_in_a_revision() -> None:
    assert date_in_revision(1_763_368_215_999_999) == "2025-11-17T08:30:15"
    assert date_in_revision(-(10**18)) == "0002-01-01T00:00:00"
