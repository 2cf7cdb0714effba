"""What all commands that make commits have in common: their options, who commits, the bar."""

from __future__ import annotations

import functools
import os
import pwd
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from fsd.limits import MIB
from fsd.memory import use_arenas
from fsd.publish.landing import Request
from fsd.tasks import take_short_turns
from fsd_cli.completion import complete_revision
from fsd_cli.paths import DEFAULT_BRANCH
from fsd_cli.progress import ProgressBar

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
            author=_this_user() if self.author is None else self.author,
            tag=self.tag,
        )


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


def _this_user() -> str:
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container often runs as a user that nobody entered
        name = f"uid {os.getuid()}"
    return f"{name}@{socket.gethostname()}"
