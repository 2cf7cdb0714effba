"""PyTorch checkpoints: pickles, of which only the opcodes are looked at. Nothing is imported, called or loaded.

A tensor's storage is a persistent id in the pickle, a tuple such as ('storage', FloatStorage, '0', 'cuda:0', 1024): its
device is a plain string. `torch.load` puts it back there, and fails where there is no such device.
"""

from __future__ import annotations

import io
import pickletools
import re
import struct
import zipfile
import zlib
from contextlib import suppress
from typing import BinaryIO

from fsd.models.description import Description, NotThatFormatError

MAX_PICKLE_BYTES = 64 * 1024 * 1024
"""Looked through. Tensors lie outside of it, in files of the archive or behind it."""

MAX_OPCODES = 20_000_000

_DEVICE = re.compile(r"(?:cpu|cuda|hip|xpu|mps|npu|hpu|xla|meta)(?::[0-9]{1,4})?\Z")
_ZIP = b"PK\x03\x04"
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""PyTorch stores; who packs an archive anew deflates. Others would need libraries that fail in ways of their own."""
_LEGACY_HEAD_BYTES = 64
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
"""The first object of a checkpoint of PyTorch before 1.6."""


def describe(file: BinaryIO, size: int) -> Description:
    """See `Describe`. Tells devices, no tensors: their shapes take executing the pickle."""
    file.seek(0)
    head = file.read(4)
    data = _archived(file) if head == _ZIP else _legacy(file, size)
    return Description("pytorch", devices=tuple(sorted(devices_in(data))))


def _archived(file: BinaryIO) -> bytes:
    try:
        with zipfile.ZipFile(file) as archive:
            [entry] = [info for info in archive.infolist() if info.filename.endswith("/data.pkl")]
            if entry.file_size > MAX_PICKLE_BYTES:
                raise NotThatFormatError("its pickle is too long to look through")
            if entry.compress_type not in _COMPRESSIONS:
                raise NotThatFormatError("its pickle is compressed as none of PyTorch is")
            with archive.open(entry) as pickle:
                return pickle.read(MAX_PICKLE_BYTES)
    except NotThatFormatError:
        raise
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,  # of headers that lie outside of the file
        ValueError,
        OverflowError,
        RuntimeError,  # encrypted, or a feature that the library lacks
        EOFError,
    ) as error:
        raise NotThatFormatError(f"it is no archive of PyTorch: {error}") from None


def _legacy(file: BinaryIO, size: int) -> bytes:
    """All pickles of a checkpoint of before PyTorch 1.6, with as much of the numbers behind them as comes along."""
    file.seek(0)
    data = file.read(min(size, MAX_PICKLE_BYTES))
    try:
        numbers = [argument for _, argument, _ in pickletools.genops(data[:_LEGACY_HEAD_BYTES]) if argument is not None]
    except ValueError as error:
        raise NotThatFormatError(f"it is no pickle: {error}") from None
    if _LEGACY_MAGIC not in numbers:
        raise NotThatFormatError("it is no checkpoint of PyTorch")
    return data


def devices_in(data: bytes) -> set[str]:
    """The devices that are named by strings of the pickles in `data`, which stand one after the other up to what is
    none."""
    found: set[str] = set()
    stream = io.BytesIO(data)  # each pickle is read where it lies: there may be as many as `data` has bytes
    seen = 0
    while seen < MAX_OPCODES:
        ended = False
        with suppress(ValueError, OverflowError):  # here are no pickles any more
            for opcode, argument, _ in pickletools.genops(stream):
                seen += 1
                if isinstance(argument, str) and _DEVICE.match(argument):
                    found.add(argument)
                ended = opcode.name == "STOP"
                if seen >= MAX_OPCODES:
                    break
        if not ended:
            break
    return found
