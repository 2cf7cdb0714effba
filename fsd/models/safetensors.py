"""safetensors: eight bytes of length, a JSON header, then the tensors. (https://huggingface.co/docs/safetensors)"""

from __future__ import annotations

import json
import struct
from typing import Any, BinaryIO

from fsd.models.description import Description, NotThatFormatError, Tensor, is_shape, shown_name

MAX_HEADER_BYTES = 100_000_000
"""The format's own limit."""

MAX_DTYPE_CHARACTERS = 32
"""None of the format's has more than eight."""

_LENGTH = struct.Struct("<Q")


def describe(file: BinaryIO, size: int) -> Description:
    """See `Describe`. Two reads, whatever the size."""
    file.seek(0)
    head = file.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise NotThatFormatError("it is shorter than a header")
    (length,) = _LENGTH.unpack(head)
    if length > min(MAX_HEADER_BYTES, size - _LENGTH.size):
        raise NotThatFormatError("its header is longer than the file, or than a header may be")
    try:
        header = json.loads(file.read(length))
    except (ValueError, RecursionError) as error:
        raise NotThatFormatError(f"its header is no JSON: {error}") from None
    if not isinstance(header, dict):
        raise NotThatFormatError("its header is no JSON object")
    metadata = header.pop("__metadata__", {})
    data_bytes = size - _LENGTH.size - length
    return Description(
        "safetensors",
        [_tensor(name, about, data_bytes) for name, about in header.items()],
        metadata if isinstance(metadata, dict) else {},
    )


def _tensor(name: str, about: Any, data_bytes: int) -> Tensor:
    try:
        dtype, shape, (start, end) = about["dtype"], about["shape"], about["data_offsets"]
    except (TypeError, KeyError, ValueError):
        raise NotThatFormatError(f"its header says of tensor {shown_name(name)} what it cannot") from None
    if not (_is_dtype(dtype) and _is_shape(shape) and _is_count(start) and _is_count(end)):
        raise NotThatFormatError(f"its header says of tensor {shown_name(name)} what it cannot")
    if not start <= end <= data_bytes:
        raise NotThatFormatError(f"tensor {shown_name(name)} lies outside of the file")
    return Tensor(name, dtype, tuple(shape), end - start)


def _is_dtype(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and len(value) <= MAX_DTYPE_CHARACTERS


def _is_shape(value: object) -> bool:
    return isinstance(value, list) and all(_is_count(each) for each in value) and is_shape(value)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
