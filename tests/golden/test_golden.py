"""The format stays what it is: files written once are read, and written again, to the same bytes.

Of what is compressed the plain form is compared, since another zstd may find another frame.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from fsd.format.commit import encode_commit, parse_commit
from fsd.format.envelope import seal, unseal
from fsd.format.index import Index, encode_index
from fsd.format.keys import ObjectKind
from fsd.format.marker import encode_marker, parse_marker
from fsd.format.pack import FOOTER_BYTES, decode_chunk, encode_contents, parse_contents, parse_footer
from fsd.format.page import Page, encode_page
from fsd.format.recipe import Recipe, encode_recipe
from fsd.format.ref import encode_ref, encode_segment, parse_ref, parse_segment
from tests.format import samples

FOLDER = Path(__file__).parent


def golden(name: str) -> tuple[bytes, bytes]:
    """The id and the stored bytes of an object named by its hash."""
    (path,) = FOLDER.glob(f"{name}.*.golden")
    return bytes.fromhex(path.name.split(".")[1]), path.read_bytes()


def document(name: str) -> bytes:
    """The bytes of anything else."""
    return (FOLDER / f"{name}.golden").read_bytes()


def test_every_sample_is_there_and_nothing_else() -> None:
    names = {path.name.split(".")[0] for path in FOLDER.glob("*.golden")}
    assert names == {name.split(".")[0] for name in [*samples.sample_objects(), *samples.sample_documents()]}


@pytest.mark.parametrize("name", samples.sample_objects())
def test_an_object_has_its_name_and_parts(name: str) -> None:
    kind, logical, placement = samples.sample_objects()[name]
    object_id, stored = golden(name)
    assert unseal(kind, object_id, stored) == (logical, placement)
    assert seal(kind, logical, placement)[0] == object_id


def test_a_page() -> None:
    parts = unseal(ObjectKind.PAGE, *golden("page"))
    entries = list(Page(*parts).entries())
    assert entries == samples.sample_entries()
    assert encode_page(entries) == parts


def test_an_index() -> None:
    logical, _ = unseal(ObjectKind.INDEX, *golden("index"))
    index = Index(logical)
    assert list(index.children) == samples.sample_children()
    assert encode_index(index.level, index.children) == logical


@pytest.mark.parametrize("level", [0, 1])
def test_recipes(level: int) -> None:
    parts = unseal(ObjectKind.RECIPE, *golden(f"recipe-{level}"))
    recipe = Recipe(*parts)
    pieces = [(recipe.id(position), recipe.length(position)) for position in range(len(recipe))]
    places = [] if level else [chunk.placement for chunk in recipe.chunks(0, len(recipe))]
    assert recipe.level == level
    assert pieces == [(samples.sample_id(60 + number), 30_000 + number) for number in range(5)]
    assert encode_recipe(level, pieces, places) == parts


@pytest.mark.parametrize(("name", "sample"), [("commit", samples.sample_commit), ("subset", samples.sample_subset)])
def test_commits(name: str, sample: object) -> None:
    logical, _ = unseal(ObjectKind.COMMIT, *golden(name))
    commit, index = parse_commit(logical)
    assert callable(sample)
    assert (commit, encode_index(index.level, index.children)) == sample()
    assert encode_commit(commit, encode_index(index.level, index.children)) == logical


def test_a_segment() -> None:
    logical, _ = unseal(ObjectKind.SEGMENT, *golden("segment"))
    assert parse_segment(logical) == samples.sample_moves(3)
    assert encode_segment(parse_segment(logical)) == logical


@pytest.mark.parametrize(
    ("name", "ref"), [("branch", samples.sample_branch()), ("subset-ref", samples.sample_subset_ref())]
)
def test_refs(name: str, ref: object) -> None:
    assert parse_ref(document(name), name) == ref
    assert encode_ref(parse_ref(document(name), name)) == document(name)


def test_a_marker() -> None:
    data = (FOLDER / "fsd.json.golden").read_bytes()
    assert parse_marker(data, "store") == samples.sample_marker()
    assert encode_marker(parse_marker(data, "store")) == data


def test_a_pack() -> None:
    pack = document("pack")
    footer = parse_footer(pack[-FOOTER_BYTES:], len(pack), "pack")
    contents = parse_contents(pack[footer.stored_bytes :], len(pack), "pack")
    at = 0
    for chunk, plain in zip(contents, samples.sample_chunks(), strict=True):
        assert decode_chunk(chunk.id, memoryview(pack)[at : at + chunk.stored], chunk.length) == plain
        at += chunk.stored
    assert [chunk.stored == chunk.length for chunk in contents] == [True, False, True]
    assert encode_contents(contents) == pack[footer.stored_bytes :]
