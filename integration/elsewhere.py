"""What the guide imports: `python3 -m integration.elsewhere dvc|hub FOLDER` lays out a DVC repository with two tags, or
a snapshot in Hugging Face's cache."""

from __future__ import annotations

import random
import sys
from pathlib import Path

from tests.importing.dvc_folder import DvcFolder
from tests.importing.test_huggingface import HubCache

REVISION = "8d4c1b2a7e9f3056d4c8b1a2e7f9305d6c4b8a1e"


def dvc(top: Path) -> None:
    """Speech: of the second version a tenth of the clips is new, and so is the model."""
    noise = random.Random(1)
    clips = {f"{number // 100}/{number:04}.wav": noise.randbytes(20_000) for number in range(1000)}
    folder = DvcFolder(top)
    folder.track("clips", clips)
    folder.lock({"train": folder.out("model.bin", noise.randbytes(3_000_000))})
    folder.git.commit("The first 1,000 clips", "v1.0")
    clips |= {path: noise.randbytes(20_000) for path in list(clips)[::10]}
    folder.track("clips", clips)
    folder.lock({"train": folder.out("model.bin", noise.randbytes(3_000_000))})
    folder.git.commit("A tenth recorded again", "v2.0")


def hub(place: Path) -> None:
    """A small model."""
    cache = HubCache(place, "models--team--tagger")
    cache.add(REVISION, "config.json", b'{"layers": 2}\n')
    cache.add(REVISION, "model.safetensors", random.Random(2).randbytes(4_000_000), large=True)


if __name__ == "__main__":
    {"dvc": dvc, "hub": hub}[sys.argv[1]](Path(sys.argv[2]).absolute())
