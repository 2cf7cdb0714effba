"""Write the golden files again: `python -m tests.golden.regenerate`, from the project's top.

Only for a new version of the format. Within a version these files never change: they are what stores out there hold.
"""

from __future__ import annotations

from pathlib import Path

from fsd.format.envelope import seal
from tests.format.samples import sample_documents, sample_objects

FOLDER = Path(__file__).parent


def main() -> None:
    """Each object as it is stored, by the name of its sample; hash-named ones with their id in the file's name."""
    for old in FOLDER.glob("*.golden"):
        old.unlink()
    for name, data in sample_documents().items():
        (FOLDER / f"{name}.golden").write_bytes(data)
    for name, parts in sample_objects().items():
        object_id, stored = seal(*parts)
        (FOLDER / f"{name}.{object_id.hex()}.golden").write_bytes(stored)


if __name__ == "__main__":
    main()
