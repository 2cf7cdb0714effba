"""Globs over paths."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

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
