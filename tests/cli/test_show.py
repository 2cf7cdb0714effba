"""`fsd show`: versions, paths, and what is in model files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.models.test_files import checkpoint, onnx, onnx_tensor, safetensors

from .conftest import Fsd


def test_a_version(look: Fsd) -> None:
    text = look("show", "birds/v2")
    assert text.startswith("commit   ")
    assert "names    main, v2\n" in text
    assert text.endswith("\n\n    Labels\n    \n    for all of them\n")
    shown = look.json("show", "birds/v2+tiny")
    assert (shown["subset"], shown["names"], shown["author"]) == ("tiny", ["main", "v2"], "someone")
    assert shown["commit"] == look.json("show", "birds")["commit"]


def test_paths(look: Fsd) -> None:
    assert look.json("show", "birds/v1/run.sh")["executable"] is True
    assert "kind     directory" in look("show", "birds/v1/images")
    assert "did you mean 'run.sh'" in look.fails(4, "show", "birds/v1/rum.sh")


@pytest.fixture
def models(fsd: Fsd, tmp_path: Path) -> Fsd:
    folder = tmp_path / "models"
    folder.mkdir()
    header = {
        "__metadata__": {"format": "pt", "note": "last\nof them"},
        "layer.weight": {"dtype": "BF16", "shape": [3, 4], "data_offsets": [0, 24]},
        "scale": {"dtype": "F32", "shape": [], "data_offsets": [24, 28]},
    }
    (folder / "model.safetensors").write_bytes(safetensors(header, bytes(28)))
    (folder / "model.onnx").write_bytes(onnx([onnx_tensor("w", 1, [2, 5], bytes(40), packed=True)]))
    (folder / "gpu.pt").write_bytes(checkpoint("cuda:0"))
    (folder / "broken.onnx").write_bytes(b"\x07")
    fsd("commit", folder, "models")
    return fsd


def test_tensors(models: Fsd) -> None:
    lines = models("show", "models/main/model.safetensors").splitlines()
    assert "tensors  2, 13 elements" in lines
    assert lines[-3].split() == ["TENSOR", "DTYPE", "SHAPE", "ELEMENTS", "SIZE"]
    assert lines[-2].split() == ["layer.weight", "BF16", "3", "×", "4", "12", "24", "B"]
    assert lines[-1].split() == ["scale", "F32", "-", "1", "4", "B"]
    assert any("last" in line and "\\" in line for line in lines)
    model = models.json("show", "models/main/model.onnx")["model"]
    assert model["tensors"] == [{"name": "w", "dtype": "float32", "shape": [2, 5], "size": 40}]
    assert (model["parameters"], model["metadata"]["opset"]) == (10, 17)


def test_checkpoints(models: Fsd) -> None:
    assert "devices  cuda:0; loading it fails where there is none of these" in models("show", "models/main/gpu.pt")


def test_a_file_that_is_not_what_it_says(models: Fsd) -> None:
    assert "is no model file of the kind its name says" in models.fails(6, "show", "models/main/broken.onnx")
    assert json.loads(models("show", "models/main", "--json"))["files"] == 4
