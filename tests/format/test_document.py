"""`docs/format.md` says what is: its limits, its example, its chunker and its links."""

from __future__ import annotations

import random
import re
from decimal import Decimal
from pathlib import Path

import pytest
from blake3 import blake3
from pyfastcdc.py.constants import GEAR, MASKS

from fsd.format import limits
from fsd.format.chunker import Chunker, ChunkerParams
from fsd.format.keys import MAX_REF_NAME_CHARACTERS, ObjectKind
from fsd.format.recipe import MAX_RECIPE_PIECES
from fsd.format.ref import MAX_MOVES, MAX_SUMMARY_CHARACTERS
from fsd.repo.rules import Matcher, Rule, stem_hash
from tests.format.example import example_parts, example_store, hex_dump

DOCUMENT = (Path(__file__).parents[2] / "docs/format.md").read_text()


def test_the_table_of_limits() -> None:
    table = {
        name: int(number.replace(",", "")) for name, number in re.findall(r"\| `(MAX_\w+)` \| ([0-9,]+) \|", DOCUMENT)
    }
    elsewhere = {
        "MAX_RECIPE_PIECES": MAX_RECIPE_PIECES,
        "MAX_REF_NAME_CHARACTERS": MAX_REF_NAME_CHARACTERS,
        "MAX_SUMMARY_CHARACTERS": MAX_SUMMARY_CHARACTERS,
        "MAX_MOVES": MAX_MOVES,
    }
    assert table == {name: value for name, value in vars(limits).items() if name.startswith("MAX_")} | elsewhere


def indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


@pytest.mark.parametrize("name", example_parts())
def test_the_examples_parts(name: str) -> None:
    # A root is shown as part of its commit.
    text = example_parts()["commit" if name == "root" else name]
    assert indented(hex_dump(text)) in DOCUMENT


def test_the_examples_keys() -> None:
    store = example_store()
    assert all(key in DOCUMENT for key in store)
    assert indented(store["refs/demo/main"].decode()) in DOCUMENT


def test_every_kind_has_its_magic_there() -> None:
    assert all(f"`{kind.value.decode()}`" in DOCUMENT for kind in ObjectKind)


def test_links_within_the_page_lead_somewhere() -> None:
    headings = re.findall(r"^#+ (.*)$", DOCUMENT, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]*)\)", DOCUMENT)) <= anchors


def cut_as_documented(data: bytes, a: int, s: int, t: int) -> list[int]:
    """The lengths of chunks, by the document's words."""
    lengths = []
    start = 0
    while start < len(data):
        b = data[start:]
        r = len(b)
        length = min(r, 4 * a)
        if r > a // 4:
            h = 0
            for i in range(a // 8 * 2, length // 2 * 2):
                h = (2 * h + GEAR[b[i]]) % 2**64
                if h & (s if i < a else t) == 0:
                    length = i
                    break
        lengths.append(length)
        start += length
    return lengths


def test_chunks_end_where_the_document_says() -> None:
    table = b"".join(number.to_bytes(8, "little") for number in GEAR)
    s, t = MASKS[15 + 2], MASKS[15 - 2]
    assert blake3(table).hexdigest() in DOCUMENT
    assert f"0x{s:016x} and 0x{t:016x}" in " ".join(DOCUMENT.split())
    data = random.Random(9).randbytes(200_000) + bytes(200_001)
    assert cut_as_documented(data, 32_768, s, t) == Chunker(ChunkerParams()).cut(data, last=True)


def hash_as_documented(seed: int, path: bytes) -> int:
    """The hash by which a path is sampled, by the document's words."""
    directory, slash, name = path.rpartition(b"/")
    while (dot := name.rfind(b".")) > 0:
        extension = name[dot + 1 :]
        if not (1 <= len(extension) <= 16 and extension.isalnum() and extension.isascii() and extension[:1].isalpha()):
            break
        name = name[:dot]
    return int.from_bytes(blake3(str(seed).encode() + b"\0" + directory + slash + name).digest()[:8], "little")


@pytest.mark.parametrize("seed", [0, 7])
def test_samples_are_what_the_document_says(seed: int) -> None:
    names = [
        "x",
        "x.jpg",
        "x.tar.gz",
        "run.0001.png",
        ".hidden",
        ".hidden.txt",
        "a.",
        "a.b.",
        "a..b",
        "2024.05.01",
        "ä.é",
    ]
    names += ["x." + "e" * 16, "x." + "e" * 17, "x.e_", "\n.a", "v1.2.json", "x.7z"]
    paths = [f"{directory}{name}".encode() for directory in ("", "train/", "a.b/c.d/") for name in names]
    matcher = Matcher(Rule(sample_percent=Decimal("12.5"), seed=seed))
    for path in paths:
        directory, _, name = path.rpartition(b"/")
        assert stem_hash(seed, directory, name) == hash_as_documented(seed, path)
        assert matcher.selects(directory, name) == (hash_as_documented(seed, path) < 2**64 // 8)
