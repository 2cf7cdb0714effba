"""The machines, each in a thread of this process that runs the installed `fsd` again and again.

    Publisher     commits to a branch of its own, tags, and deletes what it made
    Collector     `fsd gc --grace 0`, with or without an expiry
    Verifier      `fsd verify --data`, while the others are at it
    MountReader   reads what branches and tags name through a real mount

Commands of publishers and collectors are killed at random moments of the time that they usually take.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from integration.care.world import (
    POOL,
    REPOSITORY,
    UNREACHABLE,
    Named,
    World,
    content_of,
    message_of,
    name_of,
    patiently,
)
from integration.program import COMMAND_TIMEOUT_S

CONFLICT, NOT_FOUND, CORRUPT = 3, 4, 6
REFUSALS = (CONFLICT, UNREACHABLE)
KILLED_EVERY = 3
"""Of the commands of one kind that a machine runs: the second, the fifth and so on."""
FIRST_GUESS_S = 3.0
"""Of how long a command takes that never came to its end."""

READS_OF_A_MOUNT = 60
"""Then there is another, which knows nothing: what the kernel has would be read for ever after."""


class Ended(NamedTuple):
    """How a command ended."""

    code: int | None
    """None: it was killed."""
    output: str
    errors: str


class Machine(ABC):
    """Works until the world is over."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.program = world.machine(name)
        self.dice = random.Random(name)
        self._usual_s: dict[str, float] = {}
        self._begun: Counter[str] = Counter()

    def run(self) -> None:
        """In a thread of its own."""
        try:
            while not self.world.is_over:
                self.step()
        except Exception as error:
            self.world.violation(f"{self.name}: {error!r}")

    @abstractmethod
    def step(self) -> None:
        """Do one thing."""

    def command(self, *arguments: str | Path, allowed: tuple[int, ...] = ()) -> Ended:
        """Run a command to its end, or kill it on the way; any other exit code than these and 0 is a violation."""
        what = str(arguments[0])
        process = self.program.start(*arguments)
        began_s = time.monotonic()
        usual_s = self._usual_s.get(what, FIRST_GUESS_S)
        self._begun[what] += 1
        is_killed = self._begun[what] % KILLED_EVERY == 2
        try:
            output, errors = process.communicate(
                timeout=usual_s * self.dice.uniform(0.2, 1.0) if is_killed else COMMAND_TIMEOUT_S
            )
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            if not is_killed:
                self.world.violation(f"{self.name}: fsd {' '.join(map(str, arguments))} hangs")
            return Ended(None, "", "")
        if process.returncode == 0:
            self._usual_s[what] = time.monotonic() - began_s
        elif process.returncode in allowed:
            self.world.count(refused=1)
        else:
            shown = " ".join(map(str, arguments))
            self.world.violation(f"{self.name}: fsd {shown} gave {process.returncode}: {output}{errors}")
        return Ended(process.returncode, output, errors)


class Publisher(Machine):
    """Nobody else touches its branch and tags."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self._folder = world.folder / f"source of {name}"
        self._folder.mkdir()
        self._tags = [f"{name}-tag{number}" for number in range(3)]
        self._may_be: dict[str, list[str | None]] = {each: [None] for each in (name, *self._tags)}
        """The messages that what a name names may have; None: it names nothing. Several after a kill."""
        self._made: list[Named] = []

    def step(self) -> None:
        """Commit, mostly."""
        named = self._look()
        chance = self.dice.random()
        if chance < 0.7 or self.name not in named:
            self._commit()
        elif chance < 0.88:
            self._tag(named)
        else:
            self._delete(self.dice.choice([each for each in self._may_be if each in named]))

    def _commit(self) -> None:
        files = self.dice.sample(POOL, self.dice.randint(1, 20))
        _write(self._folder, files)
        message = message_of(files)
        ended = self.command("commit", self._folder, REPOSITORY, "-b", self.name, "-m", message, allowed=REFUSALS)
        self._note(self.name, message, ended)
        self.world.count(commits=ended.code == 0)

    def _tag(self, named: dict[str, Named]) -> None:
        # An older one may have been given up, or deleted.
        chosen = self.dice.choice([named[self.name], *self._made[-8:]])
        tag = self.dice.choice(self._tags)
        ended = self.command("tag", REPOSITORY, chosen.commit, tag, "--force", allowed=(*REFUSALS, NOT_FOUND))
        self._note(tag, chosen.message, ended)
        self.world.count(tags=ended.code == 0)

    def _delete(self, name: str) -> None:
        ended = self.command("delete", f"{REPOSITORY}/{name}", "--yes", allowed=(*REFUSALS, NOT_FOUND))
        self._note(name, None, ended)
        self.world.count(deletions=ended.code == 0)

    def _note(self, name: str, message: str | None, ended: Ended) -> None:
        """What a name may name from now on. Also a command that was refused may have been heard."""
        if ended.code == 0:
            self._may_be[name] = [message]
        else:
            self._may_be[name].append(message)
        self.world.count(killed_publishers=ended.code is None)

    def _look(self) -> dict[str, Named]:
        """What names name; all of it as it was left."""
        named = self.world.named()
        for name, messages in self._may_be.items():
            found = named.get(name)
            if (found.message if found else None) not in messages:
                self.world.violation(f"{name} names {found}, which may be {messages}")
            if found and found not in self._made:
                self._made.append(found)
        return named


def _write(folder: Path, files: Iterable[int]) -> None:
    """Make the folder hold just these."""
    wanted = {name_of(number): number for number in files}
    for path in folder.iterdir():
        if wanted.pop(path.name, None) is None:
            path.unlink()
    for name, number in wanted.items():
        (folder / name).write_bytes(content_of(number))


class Collector(Machine):
    """Deletes at once what nobody needs, and waits for publishers."""

    def __init__(self, world: World, name: str, *options: str) -> None:
        super().__init__(world, name)
        self._options = ("--grace", "0", "--wait", "60s", "--repack", "80", "--json", *options)

    def step(self) -> None:
        """Collect."""
        ended = self.command("gc", *self._options, allowed=REFUSALS)
        self.world.count(killed_collectors=ended.code is None)
        if ended.code == 0:
            self.count(json.loads(ended.output))
        self.world.rest(self.dice.random())

    def count(self, collected: dict[str, Any]) -> None:
        """What it says it did."""
        same = ("deleted_objects", "spared_objects", "expired_commits")
        self.world.count(
            collections=1, repacked_packs=collected["repacked"]["packs"], **{each: collected[each] for each in same}
        )

    def finish(self) -> None:
        """While nobody works: the rest goes. (Who was killed has a lease for a while, which is waited for.)"""
        done = patiently(self.program, "gc", *self._options)
        if done.returncode or json.loads(done.stdout)["waiting"]:
            self.world.violation(f"gc, while nobody works: {done.stdout}{done.stderr}")
        else:
            self.count(json.loads(done.stdout))


class Verifier(Machine):
    """What it finds missing says something only if no ref was moved meanwhile."""

    def step(self) -> None:
        """Verify."""
        before = self.world.roots()
        done = self.program.run("verify", "--data", "--json")
        if done.returncode == CORRUPT:
            if before == self.world.roots():
                self.world.violation(f"verify: {done.stdout}{done.stderr}")
            self.world.count(unsettled=1)
        elif done.returncode not in (0, UNREACHABLE):
            self.world.violation(f"verify gave {done.returncode}: {done.stderr}")
        self.world.count(verifications=1)
        self.world.rest(1.0)


class MountReader(Machine):
    """Reads through mounts with small caches. What was fetched by a mount of before is not there for the next one."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self._mountpoint = world.folder / f"mount of {name}"
        self._mountpoint.mkdir()
        self._cache = world.folder / f"cache of {name}"

    def step(self) -> None:
        """One mount's life."""
        with self._mounted() as mounted:
            for _ in range(READS_OF_A_MOUNT):
                if self.world.is_over or not self._read(mounted):
                    return
                self.world.rest(0.05)

    @contextmanager
    def _mounted(self) -> Iterator[Path]:
        shutil.rmtree(self._cache, ignore_errors=True)
        self.program("mount", self._mountpoint, "--cache-dir", self._cache, "--cache-size", "16M")
        try:
            yield self._mountpoint / REPOSITORY
        finally:
            self.program("umount", self._mountpoint)

    def _read(self, repository: Path) -> bool:
        """Read some files of what a name names. False if this mount knows what is no longer so."""
        try:
            names = sorted(path.name for path in repository.iterdir())
        except FileNotFoundError:
            return True  # nothing was published yet
        if not names:
            return True
        name = self.dice.choice(names)
        try:
            version = (repository / name).resolve(strict=True)
            files = sorted(path.name for path in version.iterdir())
            wrong = [each for each in self.dice.sample(files, min(3, len(files))) if not _is_right(version / each)]
        except OSError as error:
            return self._explain(repository, name, error)
        if wrong:
            self.world.violation(f"{self.name}: {version} has wrong bytes in {wrong}")
        self.world.count(files_read=min(3, len(files)))
        return True

    def _explain(self, repository: Path, name: str, error: OSError) -> bool:
        """A read that failed: whether what was read is still named, and whether others can read it."""
        named = self.world.named()
        wanted = next((each for each in named.values() if each.commit in str(error.filename)), None)
        if wanted is None and error.filename and name in named and str(error.filename) == str(repository / name):
            wanted = named[name]  # the name itself did not resolve, although there is one
        if wanted is None:
            self.world.count(given_up_reads=1)
            return True
        why = self.world.why_missing(wanted)
        if not why:
            self.world.count(outdated_mounts=1)
        elif wanted in self.world.named().values():
            self.world.violation(f"{self.name}: {error}; and {why}")
        return False


def _is_right(path: Path) -> bool:
    """Read a file from the daemon, whatever the kernel has of it."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return file.read() == content_of(int(path.name[1:]))


def work(machines: Iterable[Machine]) -> None:
    """All of them at once, until the world is over."""
    threads = [threading.Thread(target=each.run, name=each.name) for each in machines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
