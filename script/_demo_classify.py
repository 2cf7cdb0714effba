"""A training script that knows nothing of fsd: it is given a folder.

    python script/_demo_classify.py FOLDER

Learns the mean image of each digit from all images but every fourth, and says how many of the others it recognises.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np


def load(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The images as rows, and their labels; those that the table names and the folder has."""
    images, labels = [], []
    for line in (folder / "labels.csv").read_text().splitlines()[1:]:
        name, label = line.split(",")
        if (folder / name).exists():
            _, pixels = (folder / name).read_bytes().split(b"\n", 1)
            images.append(np.frombuffer(pixels, np.uint8))
            labels.append(int(label))
    return np.stack(images).astype(np.float32), np.array(labels)


def main() -> None:
    """Train, test, print."""
    images, labels = load(Path(sys.argv[1]))
    tested = np.arange(len(labels)) % 4 == 0
    means = np.stack([images[~tested & (labels == digit)].mean(axis=0) for digit in range(10)])
    distances = ((images[tested, None, :] - means[None]) ** 2).sum(axis=2)
    accuracy = (distances.argmin(axis=1) == labels[tested]).mean()
    print(f"{len(labels):5} images  accuracy {accuracy:.1%}")


if __name__ == "__main__":
    main()
