"""`fsd du` of paths in a mount."""

from __future__ import annotations

from pathlib import Path

from integration.datasets import noise
from integration.program import Program


def test_what_the_cache_has_of_a_path(program: Program, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for number in range(8):
        path = source / ("train" if number % 2 else "test") / f"{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(noise(number, 50_000))
    program("init", program.store)
    program("commit", source, "pictures", "--tag", "v1")
    (source / "train" / "1.bin").write_bytes(noise(99, 70_000))
    program("commit", source, "pictures")
    version = program.mount(tmp_path / "mount") / "pictures" / "v1"
    (version / "train" / "1.bin").read_bytes()

    # The mount's store is meant, whatever the others would be.
    del program.environment["FSD_STORE"]
    whole, part, named = program.json(
        "du", version, version / "train", version.parent / "main" / "train", "--against", "v1"
    )
    assert (whole["files"], whole["bytes"], whole["stored_bytes"]) == (8, 400_000, 400_000)
    assert (whole["repository"], whole["revision"], whole["path"]) == ("pictures", "v1", "")
    assert (part["path"], part["bytes"]) == ("train", 200_000)
    assert part["cached_bytes"] == 50_000
    assert part["missing_bytes"] == 150_000
    assert named["against"]["stored_bytes"] == 70_000
    assert named["missing_bytes"] == 220_000
    lines = program("du", version / "train").splitlines()
    assert lines[0].split() == ["FILES", "SIZE", "STORED", "CACHED", "MISSING", "WHAT"]
    assert program.run("du", version.parent).returncode == 2
