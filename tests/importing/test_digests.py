"""Digests are those of other programs, however the content comes in pieces."""

from __future__ import annotations

import hashlib
import random

import pytest

from fsd.errors import CorruptDataError
from fsd.importing.digests import GIT, MD5, MD5_TEXT, SHA256, Check, Digest, check_content

MIB = 1024 * 1024


def git_name(data: bytes, algorithm: str = "sha1") -> str:
    return hashlib.new(algorithm, b"blob %d\0" % len(data) + data).hexdigest()


@pytest.mark.parametrize(
    ("algorithm", "data", "expected"),
    [
        (MD5, b"a\r\nb", hashlib.md5(b"a\r\nb").hexdigest()),
        (SHA256, b"x", hashlib.sha256(b"x").hexdigest()),
        (GIT, b"", "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"),
        (GIT, b"x", git_name(b"x")),
        (GIT, b"x", git_name(b"x", "sha256")),
        (MD5_TEXT, b"", hashlib.md5(b"").hexdigest()),
        (MD5_TEXT, b"a\r\nb\r\n", hashlib.md5(b"a\nb\n").hexdigest()),
        (MD5_TEXT, b"\0\r\n", hashlib.md5(b"\0\r\n").hexdigest()),
        # Nearly a third of other bytes makes no text.
        (MD5_TEXT, b"\xff" * 31 + b"a" * 67 + b"\r\n", hashlib.md5(b"\xff" * 31 + b"a" * 67 + b"\r\n").hexdigest()),
        (MD5_TEXT, b"\xff" * 30 + b"a" * 68 + b"\r\n", hashlib.md5(b"\xff" * 30 + b"a" * 68 + b"\n").hexdigest()),
        # DVC looks at each MiB by itself: a line's end that is cut in two stays as it is.
        (MD5_TEXT, b"a" * (MIB - 1) + b"\r\nb\r\n", hashlib.md5(b"a" * (MIB - 1) + b"\r\nb\n").hexdigest()),
    ],
)
def test_digests(algorithm: str, data: bytes, expected: str) -> None:
    digest = Digest(algorithm, expected)
    check_content(b"p", data, digest)
    pieces = random.Random(1)
    check, at = Check(digest, len(data)), 0
    while at < len(data):
        step = pieces.randrange(1, max(2, len(data) // 3))
        check.update(data[at : at + step])
        at += step
    check.finish(b"p")
    with pytest.raises(CorruptDataError, match=f"a/b is damaged.*its {algorithm} is"):
        check_content(b"a/b", data + b"!", digest)


def test_none_is_not_checked() -> None:
    check_content(b"p", b"whatever", None)
