"""The hashes by which other programs name contents. They are checked while the content is read."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from fsd.errors import CorruptDataError
from fsd.ids import Buffer
from fsd.publish.source import shown

MD5 = "md5"
MD5_TEXT = "md5-dos2unix"
"""What DVC before 3.0 says of a file: of texts, the MD5 with `\\r\\n` as `\\n`."""
SHA256 = "sha256"
GIT = "git"
"""Git's name for a blob: the SHA-1 (or SHA-256) of a header and the content."""

_TEXT_BLOCK_BYTES = 1024 * 1024
"""The pieces that DVC looks at: whether one is text, and a `\\r\\n` cut in two by their border, is decided for each."""
_TEXT_PROBE_BYTES = 512
_TEXT_BYTES = bytes(range(32, 127)) + b"\n\r\t\f\b"
_TEXT_SHARE = 0.30
_SHA256_HEX_DIGITS = 64


class Digest(NamedTuple):
    """What a content hashes to."""

    algorithm: str
    hex: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


class Check:
    """A content on its way past: is it what its digest says?"""

    def __init__(self, digest: Digest, size: int) -> None:
        self._digest = digest
        self._pending = bytearray()
        is_long = len(digest.hex) == _SHA256_HEX_DIGITS
        if digest.algorithm in (MD5, MD5_TEXT):
            self._hash = hashlib.md5(usedforsecurity=False)
        elif digest.algorithm == SHA256 or is_long:
            self._hash = hashlib.sha256()
        else:
            self._hash = hashlib.sha1(usedforsecurity=False)
        if digest.algorithm == GIT:
            self._hash.update(b"blob %d\0" % size)

    def update(self, data: Buffer) -> None:
        """The next bytes."""
        if self._digest.algorithm != MD5_TEXT:
            self._hash.update(data)
            return
        self._pending += data
        while len(self._pending) >= _TEXT_BLOCK_BYTES:
            self._hash.update(_as_dvc_hashes(bytes(self._pending[:_TEXT_BLOCK_BYTES])))
            del self._pending[:_TEXT_BLOCK_BYTES]

    def finish(self, path: bytes) -> None:
        """That was all. Raises CorruptDataError, which names `path`, if it is something else."""
        if self._pending:
            self._hash.update(_as_dvc_hashes(bytes(self._pending)))
            self._pending.clear()
        found = self._hash.hexdigest()
        if found != self._digest.hex:
            raise CorruptDataError(
                f"{shown(path)} is damaged where it comes from: its {self._digest.algorithm} is {found}, "
                f"and was to be {self._digest.hex}",
                hint="get a sound copy there, then import again",
            )


def check_content(path: bytes, data: Buffer, digest: Digest | None) -> None:
    """Raises CorruptDataError if a whole content is not what its digest says."""
    if digest is not None:
        check = Check(digest, len(data))
        check.update(data)
        check.finish(path)


def _as_dvc_hashes(block: bytes) -> bytes:
    probe = block[:_TEXT_PROBE_BYTES]
    is_text = b"\0" not in probe and len(probe.translate(None, _TEXT_BYTES)) <= _TEXT_SHARE * len(probe)
    return block.replace(b"\r\n", b"\n") if is_text else block
