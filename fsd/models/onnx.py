"""ONNX: a protobuf message. Only the fields wanted here are read; the numbers of tensors are stepped over, so that a
model of gigabytes takes a few reads. (Field numbers: onnx/onnx.proto3, which never change.)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from fsd.models.description import Description, NotThatFormatError, Tensor, is_shape, shown_name

MAX_TEXT_BYTES = 64 * 1024
"""A name or a producer longer than this is none."""

MAX_TENSORS = 1_000_000
MAX_DIMENSIONS = 256

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_MODEL_PRODUCER, _MODEL_GRAPH, _MODEL_OPSET = 2, 7, 8
_GRAPH_INITIALIZER = 5
_TENSOR_DIMS, _TENSOR_DTYPE, _TENSOR_NAME = 1, 2, 8
_TENSOR_NUMBERS = frozenset((4, 5, 7, 9, 10, 11))
"""Where the numbers are: one field a type, or all of them raw."""
_OPSET_DOMAIN, _OPSET_VERSION = 1, 2

DTYPES = (
    "undefined", "float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "string", "bool", "float16",
    "float64", "uint32", "uint64", "complex64", "complex128", "bfloat16", "float8e4m3fn", "float8e4m3fnuz",
    "float8e5m2", "float8e5m2fnuz", "uint4", "int4", "float4e2m1",
)  # fmt: skip
"""By the number in TensorProto.DataType."""


class _Field(NamedTuple):
    number: int
    value: int
    """Of a number, itself; of bytes, where they start."""
    end: int
    """Where bytes end; 0 for a number."""


class _Reader:
    """Steps through messages of a file."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size

    def fields(self, start: int, end: int) -> Iterator[_Field]:
        """The fields of a message. Raises NotThatFormatError."""
        at = start
        while at < end:
            tag, at = self._varint(at, end)
            number, wire = tag >> 3, tag & 7
            if number == 0:
                raise NotThatFormatError("it is no protobuf message")
            if wire == _VARINT:
                value, at = self._varint(at, end)
                yield _Field(number, value, 0)
            elif wire == _BYTES:
                length, at = self._varint(at, end)
                if length > end - at:
                    raise NotThatFormatError("it is cut off, or no protobuf message")
                yield _Field(number, at, at + length)
                at += length
            elif wire in (_FIXED32, _FIXED64):
                at += 4 if wire == _FIXED32 else 8
            else:
                raise NotThatFormatError("it is no protobuf message")
        if at != end:
            raise NotThatFormatError("it is cut off, or no protobuf message")

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        self._file.seek(at)
        value = 0
        for position, byte in enumerate(self._file.read(min(10, end - at))):
            value |= (byte & 0x7F) << (7 * position)
            if not byte & 0x80:
                return value, at + position + 1
        raise NotThatFormatError("it is cut off, or no protobuf message")

    def text(self, field: _Field) -> str:
        """What a field of text says."""
        if field.end - field.value > MAX_TEXT_BYTES:
            raise NotThatFormatError("it has a name of impossible length")
        self._file.seek(field.value)
        return self._file.read(field.end - field.value).decode(errors="replace")

    def varints(self, field: _Field) -> list[int]:
        """Numbers, packed or one a field."""
        if not field.end:
            return [field.value]
        if field.end - field.value > 10 * MAX_DIMENSIONS:
            raise NotThatFormatError("it has a tensor of too many dimensions")
        values, at = [], field.value
        while at < field.end:
            value, at = self._varint(at, field.end)
            values.append(value)
        return values


def describe(file: BinaryIO, size: int) -> Description:
    """See `Describe`. The initializers of the main graph are the tensors."""
    reader = _Reader(file, size)
    tensors: list[Tensor] = []
    metadata: dict[str, str | int] = {}
    for field in reader.fields(0, size):
        if field.number == _MODEL_PRODUCER and field.end:
            metadata["producer"] = reader.text(field)
        elif field.number == _MODEL_OPSET and field.end:
            metadata |= _opset(reader, field)
        elif field.number == _MODEL_GRAPH and field.end:
            for each in reader.fields(field.value, field.end):
                if each.number == _GRAPH_INITIALIZER and each.end:
                    tensors.append(_tensor(reader, each))
                    if len(tensors) > MAX_TENSORS:
                        raise NotThatFormatError("it has an impossible number of tensors")
    if "opset" not in metadata and not tensors:
        raise NotThatFormatError("there is no model in it")
    return Description("onnx", tensors, metadata)


def _opset(reader: _Reader, message: _Field) -> dict[str, int]:
    domain, version = "", 0
    for field in reader.fields(message.value, message.end):
        if field.number == _OPSET_DOMAIN and field.end:
            domain = reader.text(field)
        elif field.number == _OPSET_VERSION:
            version = field.value
    return {f"opset.{domain}" if domain else "opset": version}


def _tensor(reader: _Reader, message: _Field) -> Tensor:
    name, dtype, size = "", 0, 0
    shape: list[int] = []
    for field in reader.fields(message.value, message.end):
        if field.number == _TENSOR_NAME and field.end:
            name = reader.text(field)
        elif field.number == _TENSOR_DTYPE:
            dtype = field.value
        elif field.number == _TENSOR_DIMS:
            shape += reader.varints(field)
        elif field.end and field.number in _TENSOR_NUMBERS:
            size += field.end - field.value
    if len(shape) > MAX_DIMENSIONS or not is_shape(shape):
        raise NotThatFormatError(f"tensor {shown_name(name)} has an impossible shape")
    return Tensor(name, DTYPES[dtype] if dtype < len(DTYPES) else f"type {dtype}", tuple(shape), size)
