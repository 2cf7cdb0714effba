"""What the benchmarks read and publish: generated once per folder, the same every time."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

MIB = 1024 * 1024

SMALL_FILES = 20_000
SMALL_FOLDERS = 100
LARGE_BYTES = 2048 * MIB


def _made(folder: Path) -> bool:
    return (folder.parent / f".{folder.name}.made").exists()


def _mark(folder: Path) -> Path:
    (folder.parent / f".{folder.name}.made").touch()
    return folder


def _fresh(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def small_files(folder: Path, count: int = SMALL_FILES) -> Path:
    """`count` files of 20 to 80 KB (1 GB for 20,000), as compressed pictures are: bytes that no compressor shortens."""
    if _made(folder):
        return folder
    _fresh(folder)
    generator = np.random.default_rng(1)
    for number in range(count):
        parent = folder / "train" / f"class{number % SMALL_FOLDERS:03}"
        parent.mkdir(parents=True, exist_ok=True)
        (parent / f"image{number:06}.jpg").write_bytes(generator.bytes(int(generator.integers(20_000, 80_000))))
    (folder / "README.md").write_text("# Pictures\n")
    return _mark(folder)


def large_file(folder: Path, size: int = LARGE_BYTES) -> Path:
    """One file of 2 GiB that does not compress, as weights do not."""
    if _made(folder):
        return folder
    _fresh(folder)
    generator = np.random.default_rng(2)
    with (folder / "weights.bin").open("wb") as file:
        for _ in range(size // (16 * MIB)):
            file.write(generator.bytes(16 * MIB))
    return _mark(folder)


def csv_versions(folder: Path, size: int = 200_000_000) -> Path:
    """v1: a CSV of 200 MB. v2: 1,000 rows inserted at random places and 2% appended."""
    if _made(folder):
        return folder
    _fresh(folder)
    rng = random.Random(3)

    def row(number: int) -> bytes:
        values = ",".join(f"{rng.gauss(0, 100):.6f}" for _ in range(6))
        return f"{number},{values},{rng.choice(['cat', 'dog', 'horse', 'sheep'])}\n".encode()

    rows: list[bytes] = []
    length = 0
    while length < size:
        rows.append(row(len(rows)))
        length += len(rows[-1])
    (folder / "v1").mkdir()
    (folder / "v1" / "table.csv").write_bytes(b"".join(rows))
    appended = [row(len(rows) + number) for number in range(len(rows) // 50)]
    for place in sorted((rng.randrange(len(rows)) for _ in range(1000)), reverse=True):
        rows.insert(place, row(place))
    (folder / "v2").mkdir()
    (folder / "v2" / "table.csv").write_bytes(b"".join(rows + appended))
    return _mark(folder)


def float_versions(folder: Path, tensors: int = 200, values: int = 625_000) -> Path:
    """v1: 500 MB of float32 in 200 tensors. v2: 5% of the tensors changed in place."""
    if _made(folder):
        return folder
    _fresh(folder)
    generator = np.random.default_rng(4)
    weights = generator.standard_normal((tensors, values), dtype=np.float32)
    (folder / "v1").mkdir()
    weights.tofile(folder / "v1" / "model.bin")
    for tensor in generator.choice(tensors, size=tensors // 20, replace=False):
        weights[tensor] = generator.standard_normal(values, dtype=np.float32)
    (folder / "v2").mkdir()
    weights.tofile(folder / "v2" / "model.bin")
    return _mark(folder)


def changed_copy(source: Path, folder: Path) -> Path:
    """The same files (not copied: linked), but every hundredth of the pictures is another."""
    if _made(folder):
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder, copy_function=os.link)
    change_some(folder)
    return _mark(folder)


def change_some(folder: Path, seed: int = 5) -> int:
    """Replace every hundredth picture of `small_files`; the bytes of the new ones."""
    generator = np.random.default_rng(seed)
    changed = sorted(folder.rglob("*.jpg"))[::100]
    for path in changed:
        path.unlink()  # it may be another folder's as well
        path.write_bytes(generator.bytes(50_000))
    return 50_000 * len(changed)


def model_versions(folder: Path, layers: int) -> Path:
    """v1: layers as BERT-large has them, float32 in safetensors: of 16 tensors four have 4 MiB, two 16 MiB, the others
    4 or 16 KiB. v2: one tensor in twenty is another."""
    if _made(folder):
        return folder
    _fresh(folder)
    generator = np.random.default_rng(6)
    width, inner = 1024, 4096
    shapes: dict[str, tuple[int, ...]] = {}
    for part in ("query", "key", "value", "output"):
        shapes |= {f"attention.{part}.bias": (width,), f"attention.{part}.weight": (width, width)}
    shapes |= {"inner.bias": (inner,), "inner.weight": (inner, width), "outer.bias": (width,)}
    shapes |= {"outer.weight": (width, inner)}
    shapes |= {f"norm{number}.{part}": (width,) for number in (1, 2) for part in ("bias", "weight")}
    names = {f"layer.{layer:02}.{name}": shape for layer in range(layers) for name, shape in shapes.items()}
    weights = {name: generator.standard_normal(shape, dtype=np.float32) for name, shape in names.items()}
    for version in ("v1", "v2"):
        (folder / version).mkdir()
        save_file(weights, folder / version / "model.safetensors")
        for name in sorted(names)[7::20]:
            weights[name] = generator.standard_normal(names[name], dtype=np.float32)
    return _mark(folder)


def many_tiny_files(folder: Path, count: int) -> Path:
    """`count` files of a few bytes, a thousand to a folder."""
    if _made(folder):
        return folder
    _fresh(folder)
    for start in range(0, count, 1000):
        parent = folder / f"part{start // 1000:05}"
        parent.mkdir()
        for number in range(start, min(start + 1000, count)):
            (parent / f"{number:08}.json").write_bytes(b'{"id": %d}\n' % number)
    return _mark(folder)
