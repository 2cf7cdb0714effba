"""All that goes on at once, for a chosen time, and what is thought of it afterwards.

Two mounts of one bucket, each with three processes that read (`reader`): one mount lives all the time and is measured
(`lives`), the other is killed or stopped and mounted again. Two publishers commit new versions, every third time until
they are killed. What is cached is let go of here and there, and the bucket has its weather (`weather`).
"""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from integration.conftest import sweep
from integration.gcs_places import serving
from integration.gcs_server.server import GcsServer
from integration.program import COMMAND_TIMEOUT_S, Program, status
from integration.soak.lives import Growth, Life, growths, watch
from integration.soak.reader import CHOOSING, KNOWN_AFTER_S, Event
from integration.soak.truth import Shape, version_name, write_version
from integration.soak.weather import CALM, Weather

URL = "gs://bucket/store"
REPOSITORIES = ("one", "two")

CONFLICT, NOT_FOUND, UNREACHABLE, CORRUPT = 3, 4, 5, 6
WEATHER_CODES = (UNREACHABLE, CORRUPT)

LIMITS: dict[str, int | float | str] = {
    # Else they grow, as they may, for longer than all of this takes, and no leak would be seen for it.
    "page_memory_bytes": "4M",
    "read_states": 256,
    # Many small extents and flushes: much to evict, and much that a kill can hit.
    "extent_bytes": "256K",
    "flush_interval_s": 1.0,
    # Busy readers do not leave: a mount is soon taken away from under them.
    "stop_wait_s": 3.0,
    "unmount_timeout_s": 60.0,
    "lease_s": 120.0,
    "lease_margin_s": 60.0,
    "pack_bytes": "4M",
    "own_pack_bytes": "4M",
}

SHAPE = Shape(small=240, large=6)
"""Some 50 MB a version: twice what a cache holds."""

GONE = (errno.ENOTCONN, errno.ENOENT, errno.EIO, errno.ECONNABORTED, errno.ENODEV)
"""What readers get of a mount that is taken away."""


@dataclass(frozen=True)
class Plan:
    """How long, and how much of what. Seconds."""

    seconds: float
    shape: Shape = SHAPE
    spell_s: float = 12.0
    publish_every_s: float = 8.0
    evict_every_s: float = 6.0
    restart_every_s: float = 25.0
    sample_every_s: float = 2.0
    tell_every_s: float = 10.0
    judges_growth: bool = True
    seed: int = 1


@dataclass
class Soak:
    """See the module."""

    plan: Plan
    folder: Path
    weather: Weather
    lives: list[Life]
    """The one that lives all the time, then the one that does not."""
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    explained: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ledger = self.folder / "ledger"
        self.ledger.touch()
        self.began_s = time.monotonic()
        self._over = threading.Event()
        self._lock = threading.Lock()

    @property
    def seconds(self) -> float:
        """How long it has gone on."""
        return time.monotonic() - self.began_s

    def run(self, tell: Callable[[str], None]) -> None:
        """All of it; afterwards nothing is mounted."""
        for repository in REPOSITORIES:
            self._publish(repository, 1, random.Random(repository), may_kill=False)
        for life in self.lives:
            life.mount()
        self.began_s = time.monotonic()
        threads = [threading.Thread(target=self._guarded, args=(work,)) for work in self._works()]
        for number, life in enumerate(self.lives):
            life.start_readers(self.ledger, self.plan.seed + 100 * number, self.plan.shape)
        for thread in threads:
            thread.start()
        while self.seconds < self.plan.seconds and not self._over.wait(
            min(self.plan.tell_every_s, max(0.0, self.plan.seconds - self.seconds))
        ):
            self._look_for_wrong_bytes()
            tell(self._progress())
        self._over.set()
        self.counts["seconds"] = round(self.seconds)
        for thread in threads:
            thread.join()
        for life in self.lives:
            self.violations += life.stop_readers()
        self._judge()
        for life in self.lives:
            self._count_of_daemon(life)
            life.program("umount", life.mountpoint)

    def _works(self) -> Iterator[Callable[[], None]]:
        yield lambda: self.weather.run(self._over)
        yield lambda: watch(self.lives, self.began_s, self.plan.sample_every_s, self._over)
        for repository in REPOSITORIES:
            yield lambda repository=repository: self._publish_on(repository)  # type: ignore[misc]
        yield self._evict_on
        yield self._restart_on

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self.violation(f"{error!r}" if not isinstance(error, AssertionError) else str(error))

    def violation(self, what: str) -> None:
        """Something that must never be; ends all."""
        with self._lock:
            self.violations.append(what)
        self._over.set()

    def count(self, what: str, number: int = 1) -> None:
        """Add to the figures."""
        with self._lock:
            self.counts[what] += number

    # --- those who are at it

    def _publish_on(self, repository: str) -> None:
        dice = random.Random(f"{self.plan.seed} {repository}")
        number = 2
        while not self._over.wait(self.plan.publish_every_s * dice.random()):
            if self._publish(repository, number, dice, may_kill=True):
                number += 1

    def _publish(self, repository: str, number: int, dice: random.Random, *, may_kill: bool) -> bool:
        """Commit the version and tag it. False if that has to be tried again."""
        source = self.folder / f"source of {repository}"
        source.mkdir(exist_ok=True)
        write_version(source, repository, number, self.plan.shape)
        tag = version_name(number)
        began_s = time.monotonic()
        process = self._publisher(repository).start("commit", source, repository, "--tag", tag)
        is_to_die = may_kill and dice.random() < 1 / 3
        try:
            _, errors = process.communicate(timeout=dice.uniform(0.3, 4.0) if is_to_die else COMMAND_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            if not is_to_die:
                self.violation(f"a publisher hangs at {repository}/{tag}")
            self.count("killed_publishers")
            return False
        # The tag is there already: who made it was killed a moment later.
        is_there = process.returncode == CONFLICT and "already exists" in errors
        if process.returncode == 0 or is_there:
            with self._lock, self.ledger.open("a") as ledger:
                ledger.write(f"{repository} {number} {time.monotonic()}\n")
            self.count("versions")
            return True
        self._refused(f"commit of {repository}/{tag}", process.returncode, errors, began_s)
        return False

    def _publisher(self, repository: str) -> Program:
        program = Program(self.folder / f"home of {repository}")
        program.environment["FSD_STORE"] = URL
        program.configure(**LIMITS)
        return program

    def _evict_on(self) -> None:
        dice = random.Random(f"{self.plan.seed} evict")
        while not self._over.wait(self.plan.evict_every_s * dice.uniform(0.5, 1.5)):
            life = dice.choice(self.lives)
            repository, number, _ = dice.choice(self.ledger.read_text().splitlines()).split()
            path = life.mountpoint / repository / version_name(int(number)) / dice.choice(["", "large", "d0"])
            began_s = time.monotonic()
            done = life.program.run("evict", path)
            if done.returncode == 0:
                self.count("evictions")
            elif self._is_unknown(done.stderr, began_s):
                self.count("unknown_names")
            elif not life.is_down(began_s, time.monotonic()):
                self._refused(f"evict of {path}", done.returncode, done.stderr, began_s)

    def _is_unknown(self, errors: str, began_s: float) -> bool:
        """Whether a command met a name that the mount could not know, for nobody had asked for it before."""
        is_away = any(kind.is_away for kind in self.weather.during(began_s, time.monotonic()))
        return is_away and os.strerror(errno.EIO) in errors

    def _restart_on(self) -> None:
        dice = random.Random(f"{self.plan.seed} restart")
        while not self._over.wait(self.plan.restart_every_s * dice.uniform(0.5, 1.5)):
            self.lives[1].restart(dice)

    def _refused(self, what: str, code: int, errors: str, began_s: float) -> None:
        """A command that failed: whether the weather explains it."""
        if code in WEATHER_CODES and any(
            kind is not CALM for kind in self.weather.during(began_s - 1.0, time.monotonic())
        ):
            self.count("refused")
        else:
            self.violation(f"{what} gave {code}: {errors}")

    # --- what came of it

    def _events(self) -> Iterator[tuple[Life, dict[str, Any]]]:
        for life in self.lives:
            for records in life.records:
                # Its last line may be half written.
                for line in records.read_text().splitlines(keepends=True) if records.exists() else ():
                    if line.endswith("\n"):
                        yield life, json.loads(line)

    def _look_for_wrong_bytes(self) -> None:
        """Nothing goes on after one."""
        if any(event["kind"] == "wrong" for _, event in self._events()):
            self._over.set()

    def _judge(self) -> None:
        for _, event in self._events():
            if event.pop("kind") == "tally":
                self.counts.update(event)
        for life, event in self._events():
            if event["kind"] != "tally":
                self._judge_event(life, Event(**event))
        self.violations += [f"a leak: {each}" for each in self.growths() if each.is_leak]

    def _judge_event(self, life: Life, event: Event) -> None:
        kinds = self.weather.during(event.began_s, event.ended_s)
        when = f"{event.ended_s - self.began_s:.1f} s, {'/'.join(kind.name for kind in kinds)}"
        shown = f"{life.name} at {when}: {event.kind} in {event.step}: {event.what}"
        match event.kind:
            case "error" if life.is_down(event.began_s, event.ended_s) and event.number in GONE:
                self.counts["errors_of_restarts"] += 1
            case "error" if event.number == errno.EIO and any(kind.may_fail_reads for kind in kinds):
                self.counts["errors_of_faults"] += 1
                self.explained.append(shown)
            case "error" if event.number == errno.EIO and event.step == CHOOSING and any(k.is_away for k in kinds):
                # A name that this daemon was never asked for: it waits no longer than `store_attempts` take.
                self.counts["unknown_names"] += 1
            case "missing" if self._had_no_news(life, event):
                self.counts["late_listings"] += 1
            case "wrong":
                self.counts["wrong"] += 1
                self.violations.append(shown)
            case _:
                self.counts["unexplained_errors"] += 1
                self.violations.append(shown)

    def _had_no_news(self, life: Life, event: Event) -> bool:
        since_s = event.began_s - KNOWN_AFTER_S
        is_calm = all(kind is CALM for kind in self.weather.during(since_s, event.ended_s))
        return not is_calm or life.is_down(since_s, event.ended_s)

    def growths(self) -> list[Growth]:
        """Of the mount that lived all the time; none where that was too short to say anything."""
        is_over = self.counts["seconds"] >= int(self.plan.seconds)
        return growths(self.lives[0].samples) if self.plan.judges_growth and is_over else []

    def _count_of_daemon(self, life: Life) -> None:
        cache = status(life.mountpoint)["cache"]
        for what in ("fetched_bytes", "evicted_bytes"):
            self.counts[f"{what}_of_the_long_life" if life is self.lives[0] else f"{what}_of_the_last_life"] = cache[
                what
            ]

    def _progress(self) -> str:
        now = self.lives[0].samples[-1] if self.lives[0].samples else None
        shown = f"{now.rss_bytes / 1e6:.0f} MB, {now.descriptors} fds, {now.threads} threads" if now else ""
        done = self.counts
        return (
            f"{self.seconds:6.0f} s  {self.weather.now:10}  {done['versions']} versions, "
            f"{done['killed_publishers']} killed; {self.lives[1].starts} starts, {done['evictions']} evictions; {shown}"
        )


@contextmanager
def soaking(plan: Plan, folder: Path) -> Iterator[Soak]:
    """A bucket with an empty store, and nothing mounted yet; afterwards nothing is."""
    with serving(GcsServer(rtt_s=0.01, seed=plan.seed)) as server:
        server.create_bucket("bucket")
        lives = []
        for name in ("the long life", "the short lives"):
            program = Program(folder / f"home of {name}")
            program.environment["FSD_STORE"] = URL
            program.configure(**LIMITS)
            lives.append(Life(name, program, folder))
        lives[0].program("init")
        try:
            yield Soak(plan, folder, Weather(server, plan.spell_s), lives)
        finally:
            sweep(folder)
