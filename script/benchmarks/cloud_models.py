"""What is asked for at first, and what is not asked for again: first bytes, other versions, single tensors."""

from __future__ import annotations

import os
import random
import statistics
import tempfile
import time
from pathlib import Path

import data
import readers
from cloud_huge import file_path
from cloud_place import Cloud, forget
from cloud_report import Figure, Goal, in_turn
from cloud_server import HUGE
from safetensors import safe_open

SMALL_REQUESTS = 4
RECIPE_REQUESTS = 5
ONE_TENSOR_IN = 20
HUGE_READS = 400
MAX_PIN_MS = 150
PIN_ROUNDS = 5


def first_byte(cloud: Cloud) -> None:
    """Of a small file and of one with a recipe, after mounting with an empty cache."""
    small = next(path for path in readers.files_below(str(cloud.small)) if path.endswith(".jpg"))
    for name, path, goal in (
        ("a small file", f"small/v1/{os.path.relpath(small, cloud.small)}", SMALL_REQUESTS),
        ("a file with a recipe", "large/v1/weights.bin", RECIPE_REQUESTS),
    ):
        chains: list[float] = []
        kinds: list[str] = []

        def ours(path: str = path, chains: list[float] = chains, kinds: list[str] = kinds) -> float:
            began = time.perf_counter()
            with cloud.fsd_mount() as mount:
                with cloud.server.counted() as traffic:
                    _read_first(mount.path / path)
                    seconds = time.perf_counter() - began
                chains.append(traffic[0].one_after_the_other())
                kinds[:] = [f"{each.operation} {each.kind}" for each in traffic[0].asked]
            return seconds

        def rclones(path: str = path) -> float:
            repository, _, below = path.partition("/v1/")
            began = time.perf_counter()
            with cloud.rclone_mount(cloud.small if repository == "small" else cloud.large) as mount:
                _read_first(mount.path / below)
                return time.perf_counter() - began

        samples = in_turn(cloud.rounds, ours, *([rclones] if cloud.rclone else []))
        cloud.report.add(
            Figure(
                f"requests one after the other to the first byte of {name}",
                "",
                chains,
                [Goal(goal, least=False)],
                note=", ".join(kinds),
            )
        )
        cloud.report.add(
            Figure(
                f"mount to the first byte of {name}",
                "s",
                samples[0],
                rclone=sorted(samples[1])[len(samples[1]) // 2] if cloud.rclone else None,
            )
        )


def huge(cloud: Cloud) -> None:
    """A store of 147 GB and 1.5 million files, beside the store of all the rest."""
    cloud.make_huge_store()
    files = cloud.size.huge_files
    url = f"gs://{HUGE}/{cloud.huge}"
    small = next(path for path in readers.files_below(str(cloud.small)) if path.endswith(".jpg"))

    def first(url: str | None, path: str) -> float:
        began = time.perf_counter()
        with cloud.fsd_mount(url=url) as mount:
            _read_first(mount.path / path)
            return time.perf_counter() - began

    samples = in_turn(
        cloud.rounds,
        lambda: first(url, f"huge/v1/{file_path(files // 3)}"),
        lambda: first(None, f"small/v1/{os.path.relpath(small, cloud.small)}"),
    )
    beside = statistics.median(samples[1])
    name = f"{files:,} files: mount to first byte"
    note = f"beside: {beside:.2f} s for the store of the small files"
    goals = [Goal(1.2, "beside", least=False)]
    cloud.report.add(Figure(name, "s", samples[0], goals, beside=beside, note=note))
    with cloud.fsd_mount(url=url) as mount:
        before_s = mount.processor_s()
        with cloud.server.counted() as traffic:
            rate = readers.listing(str(mount.path / "huge" / "v1"))
        cost = (mount.processor_s() - before_s) / files * 1e6
        asked = f"{traffic[0].requests:,} requests, {traffic[0].bytes_out / 1e6:.0f} MB"
        note = f"{asked}; daemon {cost:.1f} µs of processor time each"
        cloud.report.add(Figure(f"{files:,} files: listing all", "entries/s", [rate], [Goal(100_000)], note=note))
        numbers = random.Random(14).sample(range(files), min(files, HUGE_READS))
        readers.in_order([str(mount.path / "huge/v1" / file_path(number)) for number in numbers], 4)
        goals = [Goal(400, least=False)]
        note = f"peak, after listing all and reading {len(numbers)} files at random"
        cloud.report.add(
            Figure(f"{files:,} files: the daemon", "MiB", [mount.peak_bytes() / data.MIB], goals, note=note)
        )


def _read_first(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        if len(file.read(1)) != 1:
            raise OSError(f"{path} is empty")


def switch(cloud: Cloud) -> None:
    """From one version to another, to a subset, and between two versions of a model: bytes on the wire."""
    changed = _sizes_of_changed(cloud.small, cloud.changed)
    with cloud.fsd_mount() as mount:
        top = mount.path / "small"
        readers.in_order(readers.files_below(str(top / "v1")), 4)
        for version, name, wanted in (("v2", "1% of the small files changed", changed), ("v1+10pct", "a subset", 0)):
            with cloud.server.counted() as traffic:
                readers.in_order(readers.files_below(str(top / version)), 4)
            fetched = sum(each.bytes_out for each in traffic[0].of("packs"))
            other = traffic[0].bytes_out - fetched
            note = f"{wanted / 1e6:.2f} MB differ; and {other / 1e3:.0f} kB for names"
            goal = Goal(1.1 * wanted / 1e6, least=False)
            cloud.report.add(
                Figure(f"another version, {name}: file data on the wire", "MB", [fetched / 1e6], [goal], note=note)
            )
    with cloud.fsd_mount() as mount:
        model = mount.path / "model"
        readers.sequential(str(model / "v1" / "model.safetensors"))
        with cloud.server.counted() as traffic:
            readers.sequential(str(model / "v2" / "model.safetensors"))
    differ = _differing(cloud.models / "v1" / "model.safetensors", cloud.models / "v2" / "model.safetensors")
    fetched = sum(each.bytes_out for each in traffic[0].of("packs"))
    note = f"{differ / 1e6:.1f} MB differ; and {(traffic[0].bytes_out - fetched) / 1e3:.0f} kB for recipes"
    cloud.report.add(
        Figure("another version, 5% of a model's tensors changed: data on the wire", "MB", [fetched / 1e6], note=note)
    )


def pin(cloud: Cloud) -> None:
    """A pin moves to a commit that nobody has looked at, as `git checkout` does it: to the first byte."""
    relative = next(
        os.path.relpath(path, cloud.changed)
        for path in readers.files_below(str(cloud.changed))
        if not os.path.samefile(path, cloud.small / os.path.relpath(path, cloud.changed))
    )

    with cloud.fsd_mount() as mount:
        before, after = (
            os.getxattr(mount.path / "small" / version, "user.fsd.commit").decode() for version in ("v1", "v2")
        )

    def ours() -> float:
        with cloud.fsd_mount() as mount, tempfile.TemporaryDirectory() as folder:
            link = Path(folder) / "data"
            link.symlink_to(mount.path / "small" / before)
            _read_first(link / relative)
            began = time.perf_counter()
            link.unlink()
            link.symlink_to(mount.path / "small" / after)
            _read_first(link / relative)
            return (time.perf_counter() - began) * 1000

    goal = Goal(MAX_PIN_MS, least=False)
    note = "to a file that changed, of a commit that was not looked at"
    cloud.report.add(
        Figure(
            "a pin moved to another commit: to the first byte", "ms", in_turn(PIN_ROUNDS, ours)[0], [goal], note=note
        )
    )


def _sizes_of_changed(before: Path, after: Path) -> int:
    """Bytes of the files that are not the very same file in both."""
    files = readers.files_below(str(after))
    return sum(
        os.path.getsize(path) for path in files if not os.path.samefile(path, before / os.path.relpath(path, after))
    )


def _differing(before: Path, after: Path) -> int:
    """Bytes of a model's tensors that are others."""
    with safe_open(before, "np") as old, safe_open(after, "np") as new:
        pairs = ((old.get_tensor(name), new.get_tensor(name)) for name in new.keys())  # noqa: SIM118
        return sum(there.nbytes for here, there in pairs if (here != there).any())


def tensors(cloud: Cloud) -> None:
    """One tensor in twenty of a model, by name, through the library that everybody reads it with."""
    read_bytes = 0
    sizes = os.path.getsize(cloud.models / "v1" / "model.safetensors")

    def read(path: Path) -> float:
        nonlocal read_bytes
        began = time.perf_counter()
        with safe_open(path, "np") as model:
            chosen = sorted(model.keys())[7::ONE_TENSOR_IN]
            read_bytes = sum(model.get_tensor(name).nbytes for name in chosen)
        return time.perf_counter() - began

    wire: list[float] = []

    def ours() -> float:
        with cloud.fsd_mount() as mount:
            path = mount.path / "model" / "v1" / "model.safetensors"
            path.stat()
            with cloud.server.counted() as traffic:
                seconds = read(path)
            wire.append(traffic[0].bytes_out / read_bytes)
        return seconds

    def native() -> float:
        path = cloud.models / "v1" / "model.safetensors"
        forget([str(path)])
        return read(path)

    samples = in_turn(cloud.rounds, ours, native)
    note = f"{read_bytes / 1e6:.1f} MB of {sizes / 1e6:,.0f}"
    add = cloud.report.add
    add(
        Figure(
            "one tensor in twenty: bytes on the wire per byte of them", "", wire, [Goal(1.3, least=False)], note=note
        )
    )
    add(Figure("one tensor in twenty", "s", samples[0], native=sorted(samples[1])[len(samples[1]) // 2]))
