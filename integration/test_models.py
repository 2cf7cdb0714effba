"""A model made here is read elsewhere: what is loaded of it travels, and not the rest."""

# The fixture is imported, and then used as an argument of the same name:
# ruff: noqa: F401, F811

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fsd.ids import content_id
from fsd.limits import MIB
from integration.gcs_fixtures import server
from integration.gcs_server.server import GcsServer
from integration.program import Program

numpy_files = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed here")

LAYERS = 16
LAYER_BYTES = 8 * MIB


@pytest.fixture
def model() -> dict[str, np.ndarray]:
    """A hundred megabytes of layers that look like trained ones: nothing compresses them."""
    rng = np.random.default_rng(5)
    return {
        f"layer.{number:02}.weight": rng.standard_normal((LAYER_BYTES // 4 // 512, 512), dtype=np.float32)
        for number in range(LAYERS)
    }


LOADING = """
import json, sys
from blake3 import blake3
from safetensors import safe_open
with safe_open(sys.argv[1], "np", device="cpu") as opened:
    print(json.dumps({name: blake3(opened.get_tensor(name).tobytes()).hexdigest() for name in sys.argv[2:]}))
"""


def load_elsewhere(path: Path, names: list[str]) -> dict[str, str]:
    """The hashes of tensors as another process loads them. (In this one the server runs, which a page fault that holds
    the interpreter's lock would wait for.)"""
    command = [sys.executable, "-c", LOADING, str(path), *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def test_only_the_tensors_that_are_loaded_travel(
    server: GcsServer, tmp_path: Path, model: dict[str, np.ndarray]
) -> None:
    """On another machine, with nothing cached, on a CPU."""
    folder = tmp_path / "model"
    folder.mkdir()
    numpy_files.save_file(model, folder / "model.safetensors")
    here = Program(tmp_path / "here")
    here.environment["FSD_STORE"] = "gs://bucket/models"
    here("init")
    here("commit", folder, "speech", "--tag", "v1")
    shown = here.json("show", "speech/v1/model.safetensors")
    assert len(shown["model"]["tensors"]) == LAYERS

    elsewhere = Program(tmp_path / "elsewhere")
    elsewhere.environment["FSD_STORE"] = "gs://bucket/models"
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    elsewhere("mount", "gs://bucket/models", mountpoint)
    try:
        server.counters.wait_idle()
        server.counters.reset()
        wanted = ["layer.03.weight", "layer.08.weight", "layer.13.weight"]
        loaded = load_elsewhere(mountpoint / "speech/v1/model.safetensors", wanted)
        server.counters.wait_idle()
        travelled = sum(server.counters.bytes_out.values())
    finally:
        elsewhere("umount", mountpoint)
    assert loaded == {name: content_id(model[name].tobytes()).hex() for name in wanted}
    wanted_bytes = len(wanted) * LAYER_BYTES
    # The ends of tensors are not the ends of chunks, and whoever reads on is read ahead of, which is 1.11 measured. The
    # tree, its recipes and the file's header came as well. All of the model is five times as much.
    assert wanted_bytes <= travelled <= 1.3 * wanted_bytes
