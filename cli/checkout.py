"""`fsd checkout`: a version as plain files."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import click
import trio

from fsd.checkout.checkout import CheckedOut, check_out
from fsd.config import format_size
from fsd.errors import UsageError
from fsd.publish.noting import note_folder
from fsd.publish.scan import ScanKey
from fsd.repo.refs import short
from fsd.repo.repository import Repositories
from fsd.repo.revisions import Resolved, resolve
from fsd_cli.completion import complete_place
from fsd_cli.contents import expect_version, reading, version_at
from fsd_cli.context import Invocation, pass_invocation
from fsd_cli.opening import opened
from fsd_cli.output import json_option, note, print_json, say
from fsd_cli.paths import Place, parse_place
from fsd_cli.progress import ProgressBar
from fsd_cli.text import bytes_of, count, duration, shown, text_of


@click.command()
@click.argument("place", metavar="REPO/REV[/PATH]", shell_complete=complete_place)
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@json_option
@pass_invocation
def checkout(invocation: Invocation, place: str, directory: Path, as_json: bool) -> None:
    """Copy a version, or a folder of one, to DIR as plain files.

    DIR must be empty or not there yet; it appears when all is in it. Every file is checked. If it is interrupted, the
    same command goes on. 'fsd commit DIR REPO' then reads only what you changed. To read a version, mount the store
    instead: that copies nothing ahead.
    """
    parsed = parse_place(place)
    if not parsed.revision:
        raise UsageError(f"{place!r} names no revision", hint="write REPO/REV")

    async def main() -> tuple[CheckedOut, Resolved, float]:
        started = trio.current_time()
        bar = ProgressBar("copy")
        async with opened(invocation) as repositories, bar.ticking():
            resolved = await resolve(repositories, parsed.repository, parsed.revision)
            async with reading(invocation, repositories, resolved) as found:
                version = await version_at(found.repositories, resolved, parsed)
                if bar.enabled:
                    await expect_version(version, bar)
                done = await check_out(
                    version,
                    found.contents,
                    os.fsencode(directory),
                    progress=bar,
                    before_naming=_noting(invocation, repositories, resolved, parsed, directory),
                )
        return done, resolved, trio.current_time() - started

    done, resolved, seconds = trio.run(main)
    if as_json:
        print_json(
            {
                "repository": parsed.repository,
                "commit": resolved.commit.hex(),
                "subset": resolved.subset.name if resolved.subset else None,
                "path": text_of(parsed.path),
                "directory": os.path.abspath(directory),
                "new": done.is_new,
                "files": done.files,
                "bytes": done.bytes,
                "kept_files": done.files_kept,
                "seconds": round(seconds, 3),
            }
        )
        return
    where = f"{place.strip('/')} ({short(resolved.commit)})"
    if not done.is_new:
        say(f"{shown(bytes_of(str(directory)))} is {where} already: {count(done.files, 'file')} checked")
        return
    say(f"{shown(bytes_of(str(directory)))} is {where}")
    kept = f"; {done.files_kept:,} were there from an earlier try" if done.files_kept else ""
    say(f"  content  {count(done.files, 'file')}, {format_size(done.bytes)}{kept}")
    say(f"  time     {duration(seconds)}")


def _noting(
    invocation: Invocation, repositories: Repositories, resolved: Resolved, place: Place, directory: Path
) -> partial[None] | None:
    """Notes for the next commit from the folder; of a part there are none, since it is not what a commit holds."""
    if resolved.subset is not None or place.path:
        return None
    key = ScanKey(os.fsencode(os.path.abspath(directory)), repositories.marker.id, resolved.repository)
    return partial(_note, invocation.state, key, commit=resolved.commit)


def _note(state: Path, key: ScanKey, folder: bytes, *, commit: bytes) -> None:
    try:
        note_folder(state, key, folder, commit, clock_ns=time.time_ns)
    except OSError as error:
        # The next commit reads everything, then.
        note(f"cannot keep notes in {state}: {error.strerror}")
