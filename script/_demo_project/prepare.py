"""From the images of the dataset that `data` leads to: arrays to learn from, and to be tested with."""

from pathlib import Path

import numpy as np

images, labels = [], []
for line in Path("data/labels.csv").read_text().splitlines()[1:]:
    name, label = line.split(",")
    images.append(np.frombuffer(Path("data", name).read_bytes().split(b"\n", 1)[1], np.uint8))
    labels.append(int(label))
tested = np.arange(len(labels)) % 4 == 0
Path("prepared").mkdir()
for part, chosen in (("train", ~tested), ("test", tested)):
    np.save(f"prepared/{part}-images.npy", np.stack(images)[chosen].astype(np.float32))
    np.save(f"prepared/{part}-labels.npy", np.array(labels)[chosen])
