"""`fsd export`: a version for places that are no fsd: a folder, an archive, a bucket."""

from __future__ import annotations

import gzip
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast

import click
import trio

from fsd.config import format_size
from fsd.errors import ConflictError, UsageError
from fsd.exporting.exported import Exported
from fsd.exporting.loading import bucket_exporter
from fsd.exporting.tar import export_tar
from fsd.repo.refs import short
from fsd.repo.revisions import Resolved, resolve
from fsd_cli.completion import complete_place
from fsd_cli.contents import expect_version, reading, version_at
from fsd_cli.context import Invocation, pass_invocation, run_command
from fsd_cli.opening import opened
from fsd_cli.output import is_terminal, json_option, note, print_json, say, write_bytes
from fsd_cli.paths import parse_place
from fsd_cli.progress import ProgressBar
from fsd_cli.text import count, duration, text_of

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_TAR = re.compile(r"\.tar\Z", re.IGNORECASE)
_TAR_GZ = re.compile(r"\.(tar\.gz|tgz)\Z", re.IGNORECASE)
_GZIP_LEVEL = 6

Write = Callable[[Any], object]


@click.command()
@click.argument("place", metavar="REPO/REV[/PATH]", shell_complete=complete_place)
@click.argument("destination", metavar="DEST")
@json_option
@click.pass_context
@pass_invocation
def export(invocation: Invocation, context: click.Context, place: str, destination: str, as_json: bool) -> None:
    """Copy a version, or a folder of one, to where no fsd is.

    DEST is a folder (then this is 'fsd checkout'), '-' for a tar archive on standard output, a file called *.tar,
    *.tar.gz or *.tgz, or a bucket (gs://, s3:// and whatever fsspec can write to). Every file is checked.
    """
    parsed = parse_place(place)
    if not parsed.revision:
        raise UsageError(f"{place!r} names no revision", hint="write REPO/REV")
    is_archive = destination == "-" or _TAR.search(destination) or _TAR_GZ.search(destination)
    if not is_archive and _URL.match(destination) is None:
        run_command(context, "checkout", place=place, directory=Path(destination), as_json=as_json)
        return
    if destination == "-" and is_terminal():
        raise UsageError("an archive is nothing for a terminal", hint="write: fsd export REPO/REV - > FILE.tar")
    if is_archive and _URL.match(destination):
        raise UsageError("an archive in a bucket is not written directly", hint="pipe 'fsd export REPO/REV -' there")

    async def main() -> tuple[Exported, Resolved, float]:
        started = trio.current_time()
        bar = ProgressBar("copy")
        async with opened(invocation) as repositories, bar.ticking():
            resolved = await resolve(repositories, parsed.repository, parsed.revision)
            header = await repositories.commit(resolved.commit)
            async with reading(invocation, repositories, resolved) as found:
                version = await version_at(found.repositories, resolved, parsed)
                if bar.enabled:
                    await expect_version(version, bar)
                if is_archive:
                    with _archive(destination) as write:
                        done = await export_tar(version, found.contents, write, header.time_us, progress=bar)
                else:
                    done = await bucket_exporter()(version, found.contents, destination, progress=bar)
        return done, resolved, trio.current_time() - started

    done, resolved, seconds = trio.run(main)
    for warning in done.warnings:
        note(warning)
    if destination == "-":
        return
    if as_json:
        print_json(
            {
                "repository": parsed.repository,
                "commit": resolved.commit.hex(),
                "subset": resolved.subset.name if resolved.subset else None,
                "path": text_of(parsed.path),
                "destination": destination,
                "files": done.files,
                "bytes": done.bytes,
                "warnings": done.warnings,
                "seconds": round(seconds, 3),
            }
        )
        return
    say(f"{destination} is {place.strip('/')} ({short(resolved.commit)})")
    say(f"  content  {count(done.files, 'file')}, {format_size(done.bytes)}")
    say(f"  time     {duration(seconds)}")


@contextmanager
def _archive(destination: str) -> Iterator[Write]:
    """What an archive is written with; a file is there when it is whole, and never before."""
    if destination == "-":
        yield write_bytes
        return
    path = Path(destination).absolute()
    if path.exists():
        raise ConflictError(f"there is a {path} already", hint="remove it, or choose another name")
    fd, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        os.fchmod(fd, 0o666 & ~_umask())
        with os.fdopen(fd, "wb") as file:
            with _compressed(file, path) as into:
                yield into.write
            os.fsync(file.fileno())
        os.link(aside, path)
    except FileExistsError:
        raise ConflictError(f"there is a {path} already", hint="remove it, or choose another name") from None
    finally:
        with suppress(FileNotFoundError):
            os.unlink(aside)


@contextmanager
def _compressed(file: IO[bytes], path: Path) -> Iterator[IO[bytes]]:
    if _TAR_GZ.search(path.name) is None:
        yield file
        return
    # Without name and time, so that the same version gives the same bytes.
    with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=_GZIP_LEVEL, mtime=0) as into:
        yield cast("IO[bytes]", into)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
