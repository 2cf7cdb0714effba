"""`fsd edit`: a writable view of a version, without a copy."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from fsd.daemon import mounts
from fsd.daemon.edits import Edit, Edits
from fsd.errors import ConflictError, NotFoundError, UsageError
from fsd.repo.refs import SHOWN_DIGITS, short
from fsd.repo.repository import Repositories
from fsd.repo.revisions import Resolved, resolve
from fsd_cli.completion import complete_place
from fsd_cli.context import Invocation, pass_invocation
from fsd_cli.mounted import answering_mount
from fsd_cli.opening import run_on_store
from fsd_cli.output import json_option, print_json, print_table, say
from fsd_cli.paths import parse_place
from fsd_cli.text import Column, shown

_COLUMNS = (Column("EDIT"), Column("OF"), Column("COMMIT"), Column("STATE"))


@click.command()
@click.argument("place", metavar="[REPO/REV]", required=False, shell_complete=complete_place)
@click.argument("directory", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option("-l", "--list", "listing", is_flag=True, help="List edits.")
@click.option("--discard", "discarded", metavar="DIR", type=click.Path(path_type=Path), help="Give up the edit at DIR.")
@click.option(
    "--fuse-overlayfs", "by_program", is_flag=True, help="Do not use the kernel's overlay, though we are root."
)
@json_option
@pass_invocation
def edit(
    invocation: Invocation,
    place: str | None,
    directory: Path | None,
    listing: bool,
    discarded: Path | None,
    by_program: bool,
    as_json: bool,
) -> None:
    """Change a version in place, without a copy of it.

    \b
    fsd edit REPO/REV DIR      DIR shows the version, and can be written to
    fsd commit DIR REPO        commit what was changed, reading nothing else
    fsd edit --discard DIR     give it up, with what was changed and not committed
    fsd edit --list            list edits

    The store must be mounted. Only what is changed takes room, in a hidden folder beside DIR. After a restart of the
    mount or the machine, the same command takes the edit up again.
    """
    if sum((listing, discarded is not None, place is not None)) != 1 or (place is not None) != (directory is not None):
        raise UsageError("one of these at a time", hint="write: fsd edit REPO/REV DIR, or --list, or --discard DIR")
    edits = Edits(invocation.state)
    if discarded is not None:
        gone = edits.known_at(discarded)
        edits.discard(gone)
        say(f"{shown(gone.place)} is no edit any more, and what was changed in it is gone")
    elif place is None or directory is None:
        _list(edits.all(), as_json=as_json)
    else:
        made, told = _edit(invocation, edits, place, directory, by_program=by_program)
        if as_json:
            print_json(_as_json(made))
        else:
            say(told)
            say(f"  commit   fsd commit {shown(str(directory))} {made.repository} -m MSG")
            say(f"  give up  fsd edit --discard {shown(str(directory))}")


def _edit(invocation: Invocation, edits: Edits, place: str, directory: Path, *, by_program: bool) -> tuple[Edit, str]:
    """The edit, and what is to be said of it."""
    parsed = parse_place(place)
    if not parsed.revision or parsed.path:
        raise UsageError(f"{place!r} is no revision", hint="write REPO/REV: an edit is of a whole version")

    async def work(repositories: Repositories) -> tuple[Resolved, str, str]:
        resolved = await resolve(repositories, parsed.repository, parsed.revision)
        return resolved, repositories.marker.id, repositories.store.url

    resolved, store, url = run_on_store(invocation, work)
    if resolved.subset is not None:
        raise UsageError("a commit of a subset would lack the rest", hint=f"edit {parsed.repository}/{resolved.name}")
    mount = answering_mount(lambda mounted: mounted == url)
    if mount is None:
        raise NotFoundError(f"{url} is not mounted", hint="an edit is a view of a mount: see 'fsd mount --help'")
    known = edits.at(directory)
    if known is not None:
        return _resume(edits, known, store, resolved, mount)
    made = edits.begin(
        directory,
        store=store,
        repository=parsed.repository,
        revision=parsed.revision,
        commit=resolved.commit.hex(),
        mountpoint=mount.mountpoint,
        by_program=by_program,
    )
    return made, f"{shown(made.place)} is {place.strip('/')} ({short(resolved.commit)}), to be changed"


def _resume(edits: Edits, known: Edit, store: str, resolved: Resolved, mount: mounts.Mount) -> tuple[Edit, str]:
    of = f"{known.repository}/{known.revision} ({known.commit[:SHOWN_DIGITS]})"
    if (known.store, known.repository) != (store, resolved.repository) or (
        resolved.name != known.revision and resolved.commit.hex() != known.commit
    ):
        raise ConflictError(
            f"{known.place} is an edit of {of} already", hint="commit it or give it up, or edit in another folder"
        )
    if known.is_mounted:
        return known, f"{shown(known.place)} is an edit of {of} already"
    resumed = edits.resume(known, mount.mountpoint)
    return resumed, f"{shown(known.place)} is an edit of {of} again, with what was changed in it"


def _list(found: Sequence[Edit], *, as_json: bool) -> None:
    if as_json:
        print_json([_as_json(each) for each in found])
        return
    print_table(
        _COLUMNS,
        [
            (
                shown(each.place),
                f"{each.repository}/{each.revision}",
                each.commit[:SHOWN_DIGITS],
                ""
                if each.is_mounted
                else f"not mounted: fsd edit {each.repository}/{each.revision} {shown(each.place)}",
            )
            for each in found
        ],
    )


def _as_json(edit: Edit) -> dict[str, Any]:
    return asdict(edit) | {"upper": os.fspath(edit.upper), "mounted": edit.is_mounted}
