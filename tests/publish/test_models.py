"""What commits say of model files: of new and changed ones what is in them, of the others what was said before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fsd.format.limits import MAX_HEADER_BYTES
from fsd.stores.memory import MemoryStore
from tests.models.test_files import checkpoint, onnx, onnx_tensor, safetensors, spoilt_checkpoint
from tests.publish.folders import DIRECTORY, Desk, Folder, file


def weights(*shape: int) -> bytes:
    return safetensors({"w": {"dtype": "F32", "shape": list(shape), "data_offsets": [0, 4]}}, bytes(4))


async def models_of(desk: Desk, commit: bytes) -> Any:
    return (await (await desk.repositories()).commit(commit)).metadata.get("models")


async def test_models_are_described(tmp_path: Path) -> None:
    desk = Desk(tmp_path, store=MemoryStore())
    folder: Folder = {
        b"a": DIRECTORY,
        b"a/model.safetensors": file(weights(2, 3)),
        b"a/net.onnx": file(onnx([onnx_tensor("w", 1, [7], bytes(28), packed=True)])),
        b"cpu.pt": file(checkpoint("cpu")),
        b"data.bin": file(b"anything"),
        b"notes.pt": file(b"not a checkpoint"),
        b"caf\xe9.onnx": file(onnx([])),
        b"readme": file(b"..."),
    }
    first = await desk.commit(folder)
    assert first.warnings == ()
    assert await models_of(desk, first.commit) == {
        "a/model.safetensors": {"format": "safetensors", "tensors": 1, "parameters": 6, "dtypes": {"F32": 1}},
        "a/net.onnx": {"format": "onnx", "tensors": 1, "parameters": 7, "dtypes": {"float32": 1}},
        "cpu.pt": {"format": "pytorch", "devices": ["cpu"]},
    }


async def test_what_did_not_change_is_taken_over(tmp_path: Path) -> None:
    desk = Desk(tmp_path, store=MemoryStore())
    folder: Folder = {b"%s.safetensors" % name: file(weights(2)) for name in (b"kept", b"changed", b"gone", b"spoilt")}
    await desk.commit(folder)
    folder |= {b"changed.safetensors": file(weights(5)), b"spoilt.safetensors": file(b"\xff" * 20)}
    del folder[b"gone.safetensors"]
    second = await desk.commit(folder, metadata={"note": 1})
    models = await models_of(desk, second.commit)
    assert {path: each["parameters"] for path, each in models.items()} == {
        "kept.safetensors": 2,
        "changed.safetensors": 5,
    }
    assert second.content.files_read == 2
    [warning] = second.warnings
    assert "spoilt.safetensors is not what its name says" in warning
    assert (await (await desk.repositories()).commit(second.commit)).metadata["note"] == 1


async def test_a_checkpoint_of_a_gpu_is_warned_of(tmp_path: Path) -> None:
    desk = Desk(tmp_path, store=MemoryStore())
    published = await desk.commit(
        {b"gpu.pt": file(checkpoint("cpu", "cuda:0")), b"old.pth": file(checkpoint("cuda:1", legacy=True))}
    )
    assert len(published.warnings) == 2
    assert "gpu.pt holds tensors of cpu, cuda:0" in published.warnings[0]
    assert "save it as safetensors" in published.warnings[1]
    again = await desk.commit()
    assert again.warnings == ()


async def test_no_model_file_makes_a_folder_unpublishable(tmp_path: Path) -> None:
    desk = Desk(tmp_path, store=MemoryStore())
    tensor = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    folder: Folder = {
        b"spoilt.pt": file(spoilt_checkpoint()),
        b"dtype.safetensors": file(safetensors({"w": {**tensor, "dtype": "\ud800"}}, bytes(4))),
        b"huge.safetensors": file(safetensors({"w": {**tensor, "shape": [1 << 62] * 1000}}, bytes(4))),
        b"sound.safetensors": file(weights(2)),
    }
    published = await desk.commit(folder)
    assert list(await models_of(desk, published.commit)) == ["sound.safetensors"]
    assert [warning.partition(" ")[0] for warning in published.warnings] == ["dtype.safetensors", "huge.safetensors"]


async def test_what_a_commit_has_no_room_for_is_left_out(tmp_path: Path) -> None:
    """The words of people come first."""
    desk = Desk(tmp_path, store=MemoryStore())
    room = MAX_HEADER_BYTES - 64 * 1024
    one = await desk.commit({b"a.safetensors": file(weights(2))}, metadata={"note": "x" * (room - 100)})
    assert await models_of(desk, one.commit) is None
    [warning] = one.warnings
    assert warning == "the commit does not say what is in a.safetensors: it cannot be stored"
    many: Folder = {b"%d.safetensors" % number: file(weights(number)) for number in range(20)}
    all_of_them = await desk.commit(many, metadata={"note": "x" * (room - 1000)})
    assert await models_of(desk, all_of_them.commit) is None
    [warning] = all_of_them.warnings
    assert "together it is too long" in warning
