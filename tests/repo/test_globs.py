"""Globs over paths."""

from __future__ import annotations

import time

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from fsd.errors import UsageError
from fsd.repo.globs import Globs, decode_path, encode_path

MATCHES = [
    ("*.json", "a.json"),
    ("*.json", "deep/down/a.json"),
    ("*.json", ".json"),
    ("README*", "x/README.md"),
    ("*label*", "x/my-labels.csv"),
    ("**", "a/b"),
    ("train/**", "train/a"),
    ("train/**", "train/a/b"),
    ("train/", "train/a/b"),
    ("/train/", "train/a"),
    ("train/*", "train/a"),
    ("*/a.txt", "x/a.txt"),
    ("**/a.txt", "a.txt"),
    ("**/a.txt", "x/y/a.txt"),
    ("x/**/a", "x/a"),
    ("x/**/a", "x/y/z/a"),
    ("x**z/a", "x/y/z/a"),
    ("/top.txt", "top.txt"),
    ("a?c", "abc"),
    ("a?c", "aéc"),
    ("[abc].txt", "b.txt"),
    ("[a-c]x", "bx"),
    ("[!a-c]x", "dx"),
    ("[]]x", "]x"),
    ("[!]]x", "ax"),
    ("[a-]x", "-x"),
    ("[a-c-e]", "-"),
    ("[[]x", "[x"),
    ("[&&~|^]x", "^x"),
    (r"\*x", "*x"),
    (r"a\[b", "a[b"),
    ("a.c", "a.c"),
    ("a\nb", "a\nb"),
    ("*", "a\nb"),
    ("é*", "é1"),
]
MISSES = [
    ("*.json", "a.json/b"),
    ("*.json", "a.jsonl"),
    ("README*", "readme"),
    ("train/**", "train"),
    ("train/", "x/train/a"),
    ("train/*", "train/a/b"),
    ("*/a.txt", "a.txt"),
    ("*/a.txt", "x/y/a.txt"),
    ("**/a.txt", "xa.txt"),
    ("x/**/a", "xa"),
    ("/top.txt", "x/top.txt"),
    ("a?c", "a/c"),
    ("a?c", "ac"),
    ("x[!a]y", "x/y"),
    ("[a-c]x", "dx"),
    ("[!a-c]x", "ax"),
    ("a.c", "abc"),
    (r"\*x", "ax"),
    ("a/[!b]/c", "a/b/c"),
]


def match(pattern: str, path: str) -> bool:
    directory, _, name = encode_path(path).rpartition(b"/")
    return Globs([pattern]).match(directory, name)


@pytest.mark.parametrize(("pattern", "path"), MATCHES)
def test_matches(pattern: str, path: str) -> None:
    assert match(pattern, path)


@pytest.mark.parametrize(("pattern", "path"), MISSES)
def test_does_not_match(pattern: str, path: str) -> None:
    assert not match(pattern, path)


def test_one_of_several() -> None:
    globs = Globs(["*.a", "x/*", "*.b"])
    assert globs.match(b"", b"1.a")
    assert globs.match(b"", b"1.b")
    assert globs.match(b"x", b"1")
    assert not globs.match(b"", b"1.c")
    assert not Globs([]).match(b"", b"a")


def test_names_that_are_not_utf8() -> None:
    assert Globs(["*.jpg"]).match(b"\xff", b"\xfe\xff.jpg")
    assert Globs(["?.jpg"]).match(b"", b"\xff.jpg")
    assert not Globs(["?.jpg"]).match(b"", b"\xff\xff.jpg")
    assert Globs([decode_path(b"\xff*")]).match(b"", b"\xff1")
    assert not Globs(["é*"]).match(b"", "é".encode("latin-1"))


@pytest.mark.parametrize("pattern", ["", "/", "//", "[a", "[", "[]", "[!]", "a\\", "[z-a]"])
def test_malformed(pattern: str) -> None:
    with pytest.raises(UsageError, match="pattern"):
        Globs([pattern])


@given(st.binary(max_size=20))
def test_every_path_is_text_and_back(path: bytes) -> None:
    assert encode_path(decode_path(path)) == path


@given(
    st.text(st.sampled_from("ab*?[]!-/\\^&~|.(){}+$ é\n"), max_size=12), st.text(st.sampled_from("ab/-!]"), max_size=8)
)
def test_any_text_is_a_pattern_or_a_usage_error(pattern: str, path: str) -> None:
    try:
        globs = Globs([pattern])
    except UsageError:
        return
    directory, _, name = path.encode().rpartition(b"/")
    globs.match(directory, name)


@given(st.binary(min_size=1, max_size=10).filter(lambda name: b"/" not in name))
def test_an_escaped_name_matches_itself_alone(name: bytes) -> None:
    globs = Globs(["".join("\\" + character for character in decode_path(name))])
    assert globs.match(b"anywhere", name)
    assert not globs.match(b"anywhere", name + b"x")


def _matches_naively(pattern: str, path: str) -> bool:
    """The same, as the module's docstring says it: slowly."""
    text = pattern.removeprefix("/")
    text += "**" if text.endswith("/") else ""

    def matches(at: int, start: int) -> bool:
        if at == len(text):
            return start == len(path)
        lengths = range(len(path) - start + 1)
        if text.startswith("**/", at) and (at == 0 or text[at - 1] == "/"):
            ends = [start, *(start + length for length in lengths[1:] if path[start + length - 1] == "/")]
            return any(matches(at + 3, end) for end in ends)
        if text.startswith("**", at):
            return any(matches(at + 2, start + length) for length in lengths)
        if text[at] == "*":
            return any(matches(at + 1, start + length) for length in lengths if "/" not in path[start : start + length])
        if start == len(path):
            return False
        fits = path[start] != "/" if text[at] == "?" else path[start] == text[at]
        return fits and matches(at + 1, start + 1)

    return matches(0, 0)


_ALPHABET = st.sampled_from(["a", "b", "/", "*", "**", "**/", "?", "/**/", "*a*"])


@given(st.lists(_ALPHABET, min_size=1, max_size=7).map("".join), st.text("ab/", max_size=9))
@settings(max_examples=1000)
def test_gaps_are_tried_in_all_lengths_that_matter(pattern: str, path: str) -> None:
    names = path.split("/")
    if not pattern.strip("/") or "" in names:
        return
    expected = _matches_naively(pattern, path if "/" in pattern else names[-1])
    assert match(pattern, path) == expected


@pytest.mark.parametrize(
    "pattern",
    ["*a" * 40, "**a" * 40, "**/*a" * 30 + "b", "/**" + "/*a*" * 20, "*a*/" * 20 + "**b", "**/" * 50 + "*x*y"],
)
def test_a_pattern_that_means_harm_takes_no_longer_than_others(pattern: str) -> None:
    for directory, name in ((b"", b"a" * 255), (b"/".join([b"a" * 254] * 120), b"a" * 254 + b"c")):
        began_s = time.perf_counter()
        assert not Globs([pattern + "z"]).match(directory, name)
        assert time.perf_counter() - began_s < 5.0


def test_patterns_that_are_too_long_together() -> None:
    Globs(["a" * 100] * 600)
    with pytest.raises(UsageError, match="too many"):
        Globs(["a" * 100] * 700)
