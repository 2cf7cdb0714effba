"""Outlines: what a page says without its chunks, also of bytes that are no page."""

from __future__ import annotations

import random

import pytest
from hypothesis import given

from fsd.errors import CorruptDataError
from fsd.format.model import Entry, Kind
from fsd.format.outline import Outline
from fsd.format.page import Page, encode_page
from tests.format.samples import sample_entries
from tests.format.strategies import page_entries
from tests.format.test_fuzz import spoilt


@given(page_entries)
def test_an_outline_says_what_the_page_says(entries: list[Entry]) -> None:
    logical, placement = encode_page(entries)
    outline, page = Outline(logical), Page(logical, placement)
    assert outline.first_key == page.first_key
    assert outline.directories == page.directories
    for position, entry in enumerate(entries):
        assert outline.path(position) == entry.path
        assert outline.directory(position) == entry.directory
        assert (outline.kind(position), outline.executable(position)) == (entry.kind, entry.executable)
        assert (outline.size(position), outline.content(position)) == (entry.size, entry.content)


@given(page_entries)
def test_columns_are_equal_where_entries_are(entries: list[Entry]) -> None:
    page = Outline(encode_page(entries)[0])
    for position, entry in enumerate(entries):
        if entry.kind is not Kind.FILE:
            continue
        changed = [*entries[:position], entry._replace(executable=not entry.executable), *entries[position + 1 :]]
        other = Outline(encode_page(changed)[0])
        assert page.columns(position, position + 1) != other.columns(position, position + 1)
        assert page.columns(0, len(page)) != other.columns(0, len(page))
        for before, after in ((0, position), (position + 1, len(page))):
            if before < after:
                assert page.columns(before, after) == other.columns(before, after)


@pytest.mark.parametrize("seed", range(4))
def test_bytes_that_are_no_page_are_refused_or_taken_apart(seed: int) -> None:
    rng = random.Random(seed)
    logical, _ = encode_page(sample_entries())
    refused = 0
    for _ in range(500):
        try:
            outline = Outline(spoilt(logical, rng))
        except CorruptDataError:
            refused += 1
            continue
        for position in range(len(outline)):
            assert outline.path(position)
            assert Kind(outline.kind(position))
            assert len(outline.content(position)) == 32
            assert outline.size(position) >= 0
            assert outline.columns(position, position + 1)
        assert [outline.directory_range(directory) for directory in outline.directories]
    assert 50 < refused < 500
