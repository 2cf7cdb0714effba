"""Model files: what is read of them is what was written, and anything else is refused without harm."""

from __future__ import annotations

import io
import json
import math
import pickle
import struct
import zipfile
from contextlib import suppress
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from fsd.models.checkpoint import devices_in
from fsd.models.description import MAX_ELEMENTS, MAX_SUMMARY_PARTS, Describe, Description, NotThatFormatError, Tensor
from fsd.models.files import DESCRIBERS, describe_file, describer_of

# --- making files without the libraries that usually do


def safetensors(header: Any, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def message(field: int, content: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content


def onnx_tensor(name: str, dtype: int, shape: list[int], raw: bytes, *, packed: bool) -> bytes:
    dims = message(1, b"".join(map(varint, shape))) if packed else b"".join(number(1, each) for each in shape)
    return dims + number(2, dtype) + message(8, name.encode()) + message(9, raw)


def onnx(tensors: list[bytes]) -> bytes:
    graph = message(2, b"graph") + b"".join(message(5, tensor) for tensor in tensors)
    return number(1, 8) + message(2, b"maker") + message(7, graph) + message(8, message(1, b"") + number(2, 17))


class _Storage:
    """What a checkpoint holds where a tensor was."""

    def __init__(self, device: str) -> None:
        self.device = device


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: object) -> object:
        return ("storage", "FloatStorage", "0", obj.device, 12) if isinstance(obj, _Storage) else None


def pickled(value: object, protocol: int = 2) -> bytes:
    out = io.BytesIO()
    _Pickler(out, protocol).dump(value)
    return out.getvalue()


def checkpoint(*devices: str, legacy: bool = False, compression: int = zipfile.ZIP_STORED) -> bytes:
    value = {f"layer{number}": _Storage(device) for number, device in enumerate(devices)}
    if legacy:
        parts = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, value, ["0"])
        return b"".join(map(pickled, parts)) + struct.pack("<12f", *range(12))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled(value))
        archive.writestr("archive/data/0", struct.pack("<12f", *range(12)))
    return out.getvalue()


def spoilt_checkpoint() -> bytes:
    """One that was packed anew, with a flipped byte in the midst of its compressed pickle."""
    data = bytearray(checkpoint("cuda:0", compression=zipfile.ZIP_DEFLATED))
    data[data.index(b"data.pkl") + len("data.pkl")] ^= 0xFF
    return bytes(data)


def described(name: str, data: bytes) -> Description:
    found = describe_file(name, io.BytesIO(data), len(data))
    assert found is not None
    return found


# --- what is read


def test_names() -> None:
    assert describer_of("model.safetensors") is DESCRIBERS[".safetensors"]
    assert describer_of("MODEL.ONNX") is DESCRIBERS[".onnx"]
    assert describer_of("pytorch_model-00001-of-00002.bin") is DESCRIBERS[".pt"]
    for name in ("weights.bin", "onnx", "readme.md", ".pt.txt"):
        assert describer_of(name) is None
        assert describe_file(name, io.BytesIO(), 0) is None


SHAPES = st.lists(st.integers(0, 1 << 20), max_size=5).filter(lambda shape: math.prod(shape) < MAX_ELEMENTS)


@given(st.dictionaries(st.text(max_size=10).filter("__metadata__".__ne__), SHAPES, max_size=5))
def test_safetensors(shapes: dict[str, list[int]]) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    for position, (name, shape) in enumerate(shapes.items()):
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [4 * position, 4 * position + 4]}
    found = described("m.safetensors", safetensors(header, bytes(4 * len(shapes))))
    assert found.metadata == {"format": "pt"}
    assert found.tensors == [Tensor(name, "F32", tuple(shape), 4) for name, shape in shapes.items()]


@given(st.lists(st.tuples(st.text(max_size=10), SHAPES, st.binary(max_size=300)), max_size=5), st.booleans())
def test_onnx(tensors: list[tuple[str, list[int], bytes]], packed: bool) -> None:
    data = onnx([onnx_tensor(name, 1, shape, raw, packed=packed) for name, shape, raw in tensors])
    found = described("m.onnx", data)
    assert found.metadata == {"producer": "maker", "opset": 17}
    assert found.tensors == [Tensor(name, "float32", tuple(shape), len(raw)) for name, shape, raw in tensors]


def test_the_numbers_of_an_onnx_file_are_not_read() -> None:
    data = onnx([onnx_tensor("w", 1, [1 << 20], bytes(4 << 20), packed=True)])
    file = _Counting(data)
    assert describe_file("m.onnx", file, len(data)) is not None
    assert file.bytes_read < 1000


class _Counting(io.BytesIO):
    bytes_read = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.bytes_read += len(data)
        return data


@pytest.mark.parametrize("legacy", [False, True])
def test_checkpoints(legacy: bool) -> None:
    plain = described("m.pt", checkpoint("cpu", "cpu", legacy=legacy))
    assert plain.devices == ("cpu",)
    assert not plain.needs_gpu
    of_gpu = described("m.pth", checkpoint("cpu", "cuda:1", legacy=legacy))
    assert of_gpu.devices == ("cpu", "cuda:1")
    assert of_gpu.needs_gpu
    assert of_gpu.summary() == {"format": "pytorch", "devices": ["cpu", "cuda:1"]}


def test_a_checkpoint_that_was_packed_anew() -> None:
    assert described("m.pt", checkpoint("cuda:1", compression=zipfile.ZIP_DEFLATED)).devices == ("cuda:1",)


def test_many_small_pickles_are_read_where_they_lie() -> None:
    data = _Sliced(pickle.dumps(None, 0) * 1000 + pickled("cuda:3"))
    assert devices_in(data) == {"cuda:3"}
    assert data.bytes_copied <= len(data)


class _Sliced(bytes):
    bytes_copied = 0

    def __getitem__(self, key: Any) -> Any:
        part = super().__getitem__(key)
        self.bytes_copied += len(part) if isinstance(part, bytes) else 1
        return part


class _Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return _spring, ()


def _spring() -> None:
    raise AssertionError("a pickle was executed")


def test_nothing_is_executed() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps([_Trap(), "cuda:0"]))
    assert described("m.pt", out.getvalue()).devices == ("cuda:0",)


def test_a_summary_is_small() -> None:
    header = {f"t{n}": {"dtype": ("F32", "BF16")[n % 2], "shape": [2, 3], "data_offsets": [0, 4]} for n in range(1000)}
    found = described("m.safetensors", safetensors(header, bytes(4)))
    assert found.summary() == {
        "format": "safetensors",
        "tensors": 1000,
        "parameters": 6000,
        "dtypes": {"BF16": 500, "F32": 500},
    }


def test_a_summary_is_small_whatever_is_in_the_file() -> None:
    header = {f"t{n}": {"dtype": f"T{n}", "shape": [1], "data_offsets": [0, 4]} for n in range(1000)}
    header["most"] = header["also"] = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    dtypes = described("m.safetensors", safetensors(header, bytes(4))).summary()["dtypes"]
    assert len(dtypes) == MAX_SUMMARY_PARTS
    assert dtypes["F32"] == 2
    devices = described("m.pt", checkpoint(*(f"cuda:{n}" for n in range(1000)))).summary()["devices"]
    assert len(devices) == MAX_SUMMARY_PARTS


# --- what is refused


@pytest.mark.parametrize("describe", DESCRIBERS.values(), ids=DESCRIBERS)
@given(data=st.binary(max_size=200))
def test_anything_else_is_refused(describe: Describe, data: bytes) -> None:
    with suppress(NotThatFormatError):
        describe(io.BytesIO(data), len(data))


SOUND = {
    "m.safetensors": safetensors({"w": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}}, bytes(12)),
    "m.onnx": onnx([onnx_tensor("w", 1, [3], bytes(12), packed=False)]),
    "m.pt": checkpoint("cuda:0"),
    "m.ckpt": checkpoint("cuda:0", compression=zipfile.ZIP_DEFLATED),
    "m.pth": checkpoint("cuda:0", legacy=True),
}


@pytest.mark.parametrize("name", SOUND)
@given(at=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255), cut=st.floats(0, 1))
def test_damaged_files_do_no_harm(name: str, at: float, byte: int, cut: float) -> None:
    data = bytearray(SOUND[name])
    data[int(at * len(data))] = byte
    kept = bytes(data[: int(cut * len(data))])
    with suppress(NotThatFormatError):
        describe_file(name, io.BytesIO(kept), len(kept))


F32: dict[str, Any] = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("m.safetensors", b"\xff" * 8, "header is longer"),
        ("m.safetensors", safetensors([1]), "no JSON object"),
        ("m.safetensors", safetensors({"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 0]}}), "cannot"),
        ("m.safetensors", safetensors({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}), "outside"),
        ("m.safetensors", safetensors({"w": {**F32, "dtype": "\ud800"}}, bytes(4)), "cannot"),
        ("m.safetensors", safetensors({"w": {**F32, "dtype": "F" * 33}}, bytes(4)), "cannot"),
        ("m.safetensors", safetensors({"w": {**F32, "shape": [1 << 32, 1 << 31]}}, bytes(4)), "cannot"),
        ("m.safetensors", safetensors({"w": {**F32, "shape": [1 << 31] * 10_000}}, bytes(4)), "cannot"),
        ("m.safetensors", safetensors({"w" * 10_000: {}}), r"^.{,200}$"),
        ("m.onnx", onnx([onnx_tensor("w", 1, [1 << 32, 1 << 31], b"", packed=True)]), "impossible shape"),
        ("m.onnx", b"", "no model"),
        ("m.onnx", message(7, b"")[:-1] + b"\x05", "cut off"),
        ("m.pt", b"", "no pickle"),
        ("m.pt", pickle.dumps([1, 2]), "no checkpoint"),
        ("m.pt", b"PK\x03\x04" + bytes(100), "no archive"),
        ("m.pt", spoilt_checkpoint(), "no archive"),
        ("m.pt", checkpoint("cpu", compression=zipfile.ZIP_LZMA), "^its pickle is compressed"),
    ],
)
def test_what_is_wrong_is_said(name: str, data: bytes, why: str) -> None:
    with pytest.raises(NotThatFormatError, match=why):
        describe_file(name, io.BytesIO(data), len(data))


def test_an_empty_tensor_may_have_large_dimensions() -> None:
    header = {"w": {"dtype": "F32", "shape": [1 << 40, 1 << 40, 0], "data_offsets": [0, 0]}}
    assert described("m.safetensors", safetensors(header)).parameters == 0
