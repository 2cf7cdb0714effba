"""What all commands that make commits have in common: their options, who commits, the bar, what they say in the end."""

from __future__ import annotations

import functools
import os
import pwd
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import click

from fsd.config import format_size
from fsd.format.index import Totals
from fsd.limits import MIB
from fsd.memory import use_arenas
from fsd.publish.content import Content
from fsd.publish.landing import Request
from fsd.repo.refs import short
from fsd.repo.subsets import CreatedSubset
from fsd.tasks import take_short_turns
from fsd_cli.completion import complete_revision
from fsd_cli.output import say
from fsd_cli.paths import DEFAULT_BRANCH
from fsd_cli.progress import ProgressBar
from fsd_cli.text import count

KEPT_MEMORY_BYTES = 128 * MIB
"""About what buffers are in use at once while a large file is read."""

_MALLOC_ARENAS = 2
"""With one for each thread, 100 MB more are kept than are used."""

_OPTIONS = (
    click.option(
        "-b",
        "--branch",
        metavar="BRANCH",
        default=DEFAULT_BRANCH,
        show_default=True,
        help="Commit to BRANCH.",
        shell_complete=complete_revision,
    ),
    click.option("-m", "--message", metavar="MSG", multiple=True, help="What it is; given again, a further paragraph."),
    click.option("--tag", metavar="T", help="Tag the commit."),
    click.option("--author", metavar="NAME", envvar="FSD_AUTHOR", help="Default: $FSD_AUTHOR, or you at this machine."),
)


@dataclass(frozen=True, slots=True)
class Said:
    """What the options of a commit say."""

    branch: str
    message: tuple[str, ...]
    tag: str | None
    author: str | None

    def request(self, repository: str, default_message: str = "") -> Request:
        """The request for a commit to a repository."""
        return Request(
            repository=repository,
            branch=self.branch,
            message="\n\n".join(self.message) or default_message,
            author=this_user() if self.author is None else self.author,
            tag=self.tag,
        )


def this_user() -> str:
    """Who it is that commits, or runs something, where nobody says so."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container often runs as a user that nobody entered
        name = f"uid {os.getuid()}"
    return f"{name}@{socket.gethostname()}"


def commit_options(command: Callable[..., None]) -> Callable[..., None]:
    """`--branch`, `--message`, `--tag` and `--author`, given to the command as `said`."""

    @functools.wraps(command)
    def wrapped(
        *arguments: Any,
        branch: str,
        message: tuple[str, ...],
        tag: str | None,
        author: str | None,
        **others: Any,
    ) -> None:
        take_short_turns()
        use_arenas(_MALLOC_ARENAS)
        command(*arguments, said=Said(branch, message, tag, author), **others)

    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


class ShownProgress:
    """A publisher's progress, as a bar."""

    def __init__(self, bar: ProgressBar) -> None:
        self._bar = bar

    @property
    def wants_total(self) -> bool:
        """Counting takes time: only where somebody looks."""
        return self._bar.enabled

    def phase(self, name: str) -> None:
        """The bar says so."""
        self._bar.relabel(name)

    def expect(self, entries: int, size_bytes: int) -> None:
        """So long is the bar."""
        self._bar.expect(size_bytes, items=entries)

    def unchanged(self, entries: int, size_bytes: int) -> None:
        """As good as read."""
        self._bar.advance(size_bytes, items=entries)

    def read(self, files: int, size_bytes: int) -> None:
        """The bar moves on."""
        self._bar.advance(size_bytes, items=files)

    def stored(self, stored_bytes: int) -> None:
        """Not shown: what is stored is behind what is read, by no more than a queue."""


# --- what came of it


class Made(Protocol):
    """A commit that was made, or not, as nothing had changed: `Landed`, `Published`."""

    @property
    def commit(self) -> bytes:
        """What the branch names now."""

    @property
    def is_new(self) -> bool:
        """Whether it was made."""

    @property
    def parent(self) -> bytes | None:
        """What the branch named before."""

    @property
    def totals(self) -> Totals:
        """Of its tree."""

    @property
    def subsets(self) -> tuple[CreatedSubset, ...]:
        """Those that follow the branch."""


def place_of(request: Request) -> str:
    """The branch, as people write it."""
    return f"{request.repository}/{request.branch}"


def tagged(request: Request) -> str:
    """The end of a sentence on a commit: its tag, if it has got one."""
    return f", tag {request.tag}" if request.tag else ""


def say_made(
    request: Request, made: Made, content: Content | None, *, files_unchanged: int = 0, merged: str = ""
) -> None:
    """The lines on a commit that was made; `content` is what was read for it, `merged` says what came together."""
    where = place_of(request)
    say(f"{short(made.commit)} is {where}{tagged(request)}")
    say(f"  commit   {made.commit.hex()}")
    say(f"  content  {count(made.totals.files, 'file')}, {format_size(made.totals.bytes)}")
    if content is not None:
        unchanged = f"; {files_unchanged:,} had not changed" if files_unchanged else ""
        known = f"; {format_size(content.known_bytes)} was known" if content.known_bytes else ""
        say(f"  read     {count(content.files_read, 'file')}, {format_size(content.bytes_read)}{unchanged}")
        say(f"  added    {format_size(content.stored_bytes)}{known}")
    if merged:
        say(f"  merged   {merged}")
    for subset in made.subsets:
        say(f"  subset   {where}+{subset.name}, {count(subset.totals.files, 'file')}")


def made_json(
    request: Request, made: Made, content: Content | None, *, snapshot: bytes | None = None
) -> dict[str, Any]:
    """The same as a JSON object; `snapshot` is a member of it only where a command has one."""
    return {
        "repository": request.repository,
        "branch": request.branch,
        "tag": request.tag,
        "commit": made.commit.hex(),
        "parent": made.parent.hex() if made.parent else None,
        **({} if snapshot is None else {"snapshot": snapshot.hex()}),
        "new": made.is_new,
        "files": made.totals.files,
        "bytes": made.totals.bytes,
        "read_files": content.files_read if content else 0,
        "read_bytes": content.bytes_read if content else 0,
        "known_bytes": content.known_bytes if content else 0,
        "added_bytes": content.stored_bytes if content else 0,
        "subsets": [
            {"name": subset.name, "subset": subset.id.hex(), "files": subset.totals.files} for subset in made.subsets
        ],
    }
