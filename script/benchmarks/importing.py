"""Coming from DVC: `fsd import` beside `dvc pull` and `fsd commit`, each from a new clone; the remote is a folder."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from program import run
from reading import Bench
from report import Figure, paired

FILES = 10_000
LEAST_BYTES, MOST_BYTES = 2_000, 40_000
CHANGED = 500
TAGS = ("v1", "v2", "v3")
GOAL = 5.0


def imports(bench: Bench) -> None:
    """A repository of one tag, then of three, of which each changes a twentieth."""
    place = bench.folder / "import"
    dvc = _dvc(bench.folder / "dvc")
    if not (place / "made").exists():
        _make(place, dvc)
    for tags in (TAGS[:1], TAGS):
        ours, native = paired(
            lambda tags=tags: _import(bench, place, tags), lambda tags=tags: _pull(bench, place, dvc, tags)
        )  # type: ignore[misc]
        versions = "1 version" if len(tags) == 1 else f"{len(tags)} versions"
        bench.report.add(
            Figure(
                f"import of a DVC repository, {FILES:,} files, {versions}",
                "files/s",
                FILES * len(tags) / ours,
                FILES * len(tags) / native,
                goal=GOAL,
                goal_is_ratio=True,
                note="native: dvc pull and fsd commit",
            )
        )


def _dvc(place: Path) -> Path:
    """The real DVC, in an environment of its own: it has many dependencies."""
    program = place / "bin" / "dvc"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        subprocess.run([place / "bin" / "pip", "install", "-q", "dvc"], check=True)
    return program


def _make(place: Path, dvc: Path) -> None:
    """The repository and its remote, by DVC itself."""
    shutil.rmtree(place, ignore_errors=True)
    top = place / "repository"
    top.mkdir(parents=True)
    noise = random.Random(1)
    _git(top, "init", "-q", "-b", "main")
    _run(dvc, top, "init", "-q")
    _run(dvc, top, "remote", "add", "-q", "-d", "storage", str(place / "remote"))
    for tag, numbers in zip(TAGS, _changes(noise), strict=True):
        for number in numbers:
            path = top / "data" / f"{number % 100:03}" / f"{number:06}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)  # it may be a link into the cache
            path.write_bytes(noise.randbytes(noise.randrange(LEAST_BYTES, MOST_BYTES)))
        _run(dvc, top, "add", "-q", "data")
        _git(top, "add", "-A")
        _git(top, "commit", "-q", "-m", tag)
        _git(top, "tag", tag)
    _run(dvc, top, "push", "-q", "--all-tags")
    (place / "made").touch()


def _changes(noise: random.Random) -> Iterator[list[int]]:
    """The files that each version has anew."""
    yield list(range(FILES))
    for _ in TAGS[1:]:
        yield noise.sample(range(FILES), CHANGED)


def _import(bench: Bench, place: Path, tags: tuple[str, ...]) -> float:
    """Seconds."""
    clone, store = _begin(bench, place)
    started = time.perf_counter()
    revisions = [word for tag in tags for word in ("--rev", tag)]
    run("import", str(clone), "data", *revisions, store=store)
    return time.perf_counter() - started


def _pull(bench: Bench, place: Path, dvc: Path, tags: tuple[str, ...]) -> float:
    """The same by a work tree of each version."""
    clone, store = _begin(bench, place)
    started = time.perf_counter()
    for tag in tags:
        _git(clone, "checkout", "-q", tag)
        _run(dvc, clone, "pull", "-q")
        run("commit", str(clone / "data"), "data", "--tag", tag, store=store)
    return time.perf_counter() - started


def _begin(bench: Bench, place: Path) -> tuple[Path, Path]:
    """A new clone, and a new store that this machine knows nothing of."""
    clone, store = place / "clone", place / "store"
    for folder in (clone, store, bench.folder / "state"):
        shutil.rmtree(folder, ignore_errors=True)
    _git(place, "clone", "-q", "repository", "clone")
    run("init", str(store))
    os.sync()
    return clone, store


def _git(folder: Path, *arguments: str) -> None:
    user = ["-c", "user.name=bench", "-c", "user.email=bench@example.org"]
    subprocess.run(["git", *user, *arguments], cwd=folder, check=True, capture_output=True)


def _run(dvc: Path, folder: Path, *arguments: str) -> None:
    environment = os.environ | {"DVC_NO_ANALYTICS": "1", "PATH": f"{dvc.parent}:{os.environ['PATH']}"}
    subprocess.run([dvc, *arguments], cwd=folder, check=True, capture_output=True, env=environment)
