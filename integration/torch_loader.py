"""Reads a folder with a torch DataLoader in four worker processes and prints what it found, whatever the order."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from torch.utils.data import DataLoader, Dataset


class Files(Dataset[tuple[str, str]]):
    """Each file's name and digest."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.paths = sorted(path for path in root.rglob("*") if path.is_file())

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[str, str]:
        path = self.paths[index]
        return str(path.relative_to(self.root)), hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    """Two epochs, both of which must agree."""
    loader = DataLoader(Files(Path(sys.argv[1])), batch_size=8, shuffle=True, num_workers=4)
    epochs = [sorted(pair for names, digests in loader for pair in zip(names, digests, strict=True)) for _ in range(2)]
    if epochs[0] != epochs[1]:
        raise SystemExit("two epochs differ")
    for name, digest in epochs[0]:
        print(digest, name)


if __name__ == "__main__":
    main()
