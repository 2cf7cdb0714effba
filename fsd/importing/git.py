"""A Git repository, read with the `git` program: revisions, what is in them, and blobs. Nothing is checked out."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from fsd.errors import CorruptDataError, NotFoundError, UsageError
from fsd.importing.revisions import Revision
from fsd.publish.source import UnreadableError

FILE, PROGRAM, SYMLINK, SUBMODULE = 0o100644, 0o100755, 0o120000, 0o160000

_FIELDS = ("%H", "%an <%ae>", "%ct", "%B")


class Blob(NamedTuple):
    """A path of a revision."""

    path: bytes
    """From the folder that was opened."""
    mode: int
    """Git's."""
    id: str
    size: int


class GitRepository:
    """The repository that a folder is in; paths count from that folder."""

    def __init__(self, folder: Path) -> None:
        """Raises NotFoundError if it is in none."""
        self._folder = folder
        found = self._try("rev-parse", "--git-dir")
        if found.returncode:
            raise NotFoundError(f"{folder} is in no Git repository: {_said(found)}", hint="name a clone of one")
        self.directory = Path(os.path.join(folder, os.fsdecode(found.stdout.rstrip(b"\n"))))
        """Git's own folder."""
        common = self._run("rev-parse", "--git-common-dir").rstrip(b"\n")
        self.common_directory = Path(os.path.join(folder, os.fsdecode(common)))
        """The one that all work trees share."""

    def revisions(self, wanted: Sequence[str]) -> list[Revision]:
        """Those that are wanted; of none all tags; without tags what is checked out. Each after its ancestors.

        The branch goes to the one named last, or without names to the last that what is checked out comes from. Raises
        UsageError for one that is neither among its ancestors nor has a tag, and so could not be reached afterwards.
        """
        tags = self._tags()
        chosen = [self._commit(name) for name in wanted] if wanted else list(tags) or [self._commit("HEAD")]
        order, nearest = self._ancestry(list(dict.fromkeys(chosen)))
        head = self._try("rev-parse", "--verify", "--quiet", "HEAD^{commit}").stdout.decode().strip()
        of_head = set(self._ids("rev-list", head)) if head else set()
        last = next((commit for commit in reversed(order) if commit in of_head), order[-1])
        if wanted:
            last = chosen[-1]
        line, reached = self._line(last, nearest)
        made = [self._revision(commit, tags.get(commit, ()), nearest[commit], commit in line) for commit in order]
        for revision in made:
            if revision.id not in reached and not revision.tags:
                raise UsageError(
                    f"{revision.shown} is no ancestor of {last[:10]} and has no tag, so nothing would name it",
                    hint="tag it in Git, or import it by itself to another branch: -b BRANCH",
                )
        return made

    def _line(self, last: str, nearest: Mapping[str, Sequence[str]]) -> tuple[set[str], set[str]]:
        """The chosen commits that the branch passes to get to `last`: of merged lines the one that others were merged
        into. And all that it comes from."""
        first_parents = set(self._ids("rev-list", "--first-parent", last))
        line, commit = {last}, last
        while nearest[commit]:
            commit = next((one for one in nearest[commit] if one in first_parents), nearest[commit][0])
            line.add(commit)
        reached, waiting = set[str](), [last]
        while waiting:
            commit = waiting.pop()
            if commit not in reached:
                reached.add(commit)
                waiting += nearest[commit]
        return line, reached

    def _tags(self) -> dict[str, tuple[str, ...]]:
        """The tags of each commit; not those of other things."""
        tags: dict[str, list[str]] = {}
        form = "--format=%(objecttype) %(objectname) %(*objecttype) %(*objectname) %(refname:strip=2)"
        for line in self._run("for-each-ref", form, "refs/tags").splitlines():
            kind, commit, below_kind, below, name = line.decode("utf-8", "surrogateescape").split(" ", 4)
            if below_kind == "commit":
                commit = below
            elif kind != "commit":
                continue
            tags.setdefault(commit, []).append(name)
        return {commit: tuple(names) for commit, names in tags.items()}

    def _commit(self, name: str) -> str:
        found = self._try("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        if found.returncode:
            raise NotFoundError(
                f"there is no revision {name!r} in the Git repository of {self._folder}", hint="'git tag' lists tags"
            )
        return found.stdout.decode().strip()

    def _ancestry(self, chosen: Sequence[str]) -> tuple[list[str], dict[str, tuple[str, ...]]]:
        """The chosen commits in order, and for each the nearest others that it comes from."""
        order: list[str] = []
        wanted = set(chosen)
        above: dict[str, frozenset[str]] = {}
        reached: dict[str, set[str]] = {}
        nearest: dict[str, tuple[str, ...]] = {}
        for line in self._run("rev-list", "--topo-order", "--reverse", "--parents", *chosen).decode().splitlines():
            commit, *parents = line.split()
            seen = frozenset().union(*(above.get(parent, frozenset()) for parent in parents))
            if commit in wanted:
                all_above = set(seen).union(*(reached[one] for one in seen)) if seen else set()
                near = [one for one in order if one in seen and not any(one in reached[other] for other in seen)]
                order.append(commit)
                reached[commit], nearest[commit] = all_above, tuple(near)
                seen = frozenset((commit,))
            above[commit] = seen
        return order, nearest

    def _revision(self, commit: str, tags: Sequence[str], parents: Sequence[str], on_branch: bool) -> Revision:
        told = self._run("show", "-s", f"--format={'%x00'.join(_FIELDS)}", "--encoding=UTF-8", commit)
        _, author, time_s, message = told.decode("utf-8", "replace").split("\0", 3)
        return Revision(
            commit, tuple(tags), tuple(parents), author, int(time_s) * 1_000_000, message.strip(), on_branch
        )

    # --- what is in them

    def blobs(self, commit: str) -> Iterator[Blob]:
        """All paths of a revision, at and below the folder."""
        for line in self._run("ls-tree", "-r", "-z", "-l", commit).split(b"\0"):
            if line:
                told, _, path = line.partition(b"\t")
                mode, _kind, blob, size = told.split()
                yield Blob(path, int(mode, 8), blob.decode(), 0 if size == b"-" else int(size))

    def open_blob(self, blob: str) -> BlobStream:
        """A large blob, to be read from its start to its end; close it."""
        return BlobStream(self._command("cat-file", "blob"), blob)

    def config(self, *arguments: str) -> str | None:
        """What `git config` says; None if nothing."""
        found = self._try("config", *arguments)
        return None if found.returncode else found.stdout.decode("utf-8", "surrogateescape").rstrip("\n")

    # --- the program

    def _ids(self, *arguments: str) -> list[str]:
        return self._run(*arguments).decode().split()

    def _run(self, *arguments: str) -> bytes:
        done = self._try(*arguments)
        if done.returncode:
            raise UnreadableError(
                f"git {arguments[0]} in {self._folder} failed: {_said(done)}", hint="look what 'git fsck' says"
            )
        return done.stdout

    def _try(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        try:
            return subprocess.run(self._command(*arguments), capture_output=True, check=False, stdin=subprocess.DEVNULL)
        except FileNotFoundError:
            raise UsageError("this needs the program 'git', which is not installed", hint="install git") from None

    def _command(self, *arguments: str) -> list[str]:
        return ["git", "--no-optional-locks", "-C", os.fspath(self._folder), *arguments]

    def reader(self) -> BlobReader:
        """Reads small blobs; close it."""
        return BlobReader(self._command("cat-file", "--batch"))


class BlobReader:
    """Small blobs, one after the other, from one process that is started at the first. Safe to use from threads."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def read(self, blob: str) -> bytes:
        """All of a blob. Raises CorruptDataError if Git does not have it."""
        with self._lock:
            if self._process is None:
                self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(blob.encode() + b"\n")
            self._process.stdin.flush()
            told = self._process.stdout.readline().split()
            if len(told) != 3:
                raise CorruptDataError(
                    f"Git has no blob {blob}", hint="the clone may be a partial one: fetch all of it"
                )
            size = int(told[2])
            data = self._process.stdout.read(size + 1)
        if len(data) != size + 1:
            raise CorruptDataError(f"Git stopped within blob {blob}", hint="look what 'git fsck' says")
        return data[:-1]

    def close(self) -> None:
        """End the process. Idempotent."""
        process, self._process = self._process, None
        if process is not None:
            process.communicate()


class BlobStream:
    """One blob, from a process of its own."""

    def __init__(self, command: Sequence[str], blob: str) -> None:
        self._blob = blob
        self._process = subprocess.Popen([*command, blob], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)

    def read(self, size: int, /) -> bytes:
        """At most so many bytes more. Raises CorruptDataError where Git does not have them."""
        assert self._process.stdout is not None
        data = self._process.stdout.read(size)
        if not data and self._process.wait():
            raise CorruptDataError(f"Git cannot read blob {self._blob}", hint="look what 'git fsck' says")
        return data

    def close(self) -> None:
        """End the process."""
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process.wait()


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[0].removeprefix("fatal: ") if lines else f"exit code {done.returncode}"
