"""`fsd verify`: whether everything in a store is there and is what it should be; and putting back what is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import trio

from fsd.config import format_size
from fsd.errors import CorruptDataError, UsageError
from fsd.maintenance.mending import Mended
from fsd.maintenance.repair import Repaired, repair
from fsd.maintenance.verify import Report
from fsd.maintenance.verify import verify as verify_store
from fsd_cli.context import Invocation, pass_invocation
from fsd_cli.donors import opened_donors
from fsd_cli.opening import opened
from fsd_cli.output import json_option, print_json, say
from fsd_cli.progress import ProgressBar, StoreWork
from fsd_cli.text import count, duration, one_line, shown

SHOWN = 20
"""Damages and files shown as text; JSON has all that were kept."""


@click.command()
@click.option("--data", is_flag=True, help="Read every chunk as well: all bytes of the store.")
@click.option("--repair", "is_repair", is_flag=True, help="Put back what this machine has of what the store lost.")
@click.option(
    "--from",
    "folders",
    metavar="DIR",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="With --repair: look in the files of DIR as well. May be given several times.",
)
@json_option
@pass_invocation
def verify(invocation: Invocation, data: bool, is_repair: bool, folders: tuple[Path, ...], as_json: bool) -> None:
    """Check that everything in the store is there, parses, and is what its name promises.

    Looks at all that any branch, tag or subset names or ever named. Without --data the bytes of files are not
    read: only that their packs are there and long enough. Nothing is changed. Exit code 6 if anything is wrong.

    With --repair, what is missing or damaged is put back from the caches that this machine has of the store, and from
    the files of each --from DIR: the folder that was published, say, or a checkout. No commit changes. Exit code 6
    only if something is left.
    """
    if folders and not is_repair:
        raise UsageError("--from is for --repair")

    async def main() -> tuple[Repaired, float]:
        started = trio.current_time()
        async with opened(invocation) as repositories, ProgressBar("objects").ticking() as bar:
            progress = StoreWork(bar)
            if not is_repair:
                repaired = Repaired(await verify_store(repositories, progress, data=data))
            else:
                async with opened_donors(invocation, repositories, folders) as donors:
                    repaired = await repair(repositories, donors, progress, data=data)
        return repaired, trio.current_time() - started

    repaired, seconds = trio.run(main)
    report = repaired.left
    if as_json:
        print_json(_as_json(report, seconds) | (_repair_as_json(repaired) if is_repair else {}))
    else:
        _print_mended(repaired.mended)
        _print(report, seconds, data=data)
    if not report.is_whole:
        raise CorruptDataError(
            f"{count(len(report.damages), 'thing')} in {invocation.store_url} "
            f"{'is' if len(report.damages) == 1 else 'are'} {'still ' if is_repair else ''}damaged or missing",
            hint=_hint(report, is_repair=is_repair),
        )


def _hint(report: Report, *, is_repair: bool) -> str:
    if not is_repair:
        hint = "'fsd verify --repair' puts back what this machine has of it"
    elif report.files_concerned:
        hint = "repair it where it was read, or with --from DIR from a folder that has the files"
    else:
        hint = "repair it where it was read"
    if report.files_concerned:
        hint += "; the files named above cannot be read whole: publish them again from where they came from"
    return hint


def _print_mended(mended: list[Mended]) -> None:
    if not mended:
        return
    say("put back:")
    for each in mended[:SHOWN]:
        chunks = f"{count(each.chunks, 'chunk')}, {format_size(each.bytes)}, " if each.chunks else ""
        origins = f"{chunks}from {' and '.join(each.origins)}" if each.origins else "from what was there"
        say(f"  {each.what:8} {each.id}: {origins} ({each.why})")
    _more(len(mended))


def _print(report: Report, seconds: float, *, data: bool) -> None:
    for damage in report.damages[:SHOWN]:
        way = f"  ({shown(damage.way)})" if damage.way and damage.way != damage.id else ""
        say(f"{damage.what:8} {shown(damage.id)}{way}: {one_line(damage.why)}")
    _more(len(report.damages))
    if report.files_concerned:
        say(f"{count(report.files_concerned, 'file')} cannot be read whole:")
        for file in report.files[:SHOWN]:
            say(f"  {shown(file)}")
        _more(report.files_concerned)
    say(f"  refs     {report.refs:,}, with {count(report.commits, 'commit')}")
    say(f"  objects  {report.objects:,} read and checked")
    say(f"  packs    {report.packs:,}, {format_size(report.pack_bytes)}")
    say(f"  chunks   {f'{report.chunks:,} read and checked' if data else 'not read (--data reads them)'}")
    say(f"  time     {duration(seconds)}")
    if report.is_whole:
        say("all of it is there and right" if data else "all of it is there")


def _more(found: int) -> None:
    if found > SHOWN:
        say(f"  … and {found - SHOWN:,} more (--json has them)")


def _repair_as_json(repaired: Repaired) -> dict[str, Any]:
    """`damages` and `files` tell what is left; these, what was found besides, and what was put back."""
    return {
        "found": [damage._asdict() for damage in repaired.found],
        "mended": [{**each._asdict(), "origins": list(each.origins)} for each in repaired.mended],
    }


def _as_json(report: Report, seconds: float) -> dict[str, Any]:
    return {
        "whole": report.is_whole,
        "refs": report.refs,
        "commits": report.commits,
        "objects": report.objects,
        "packs": report.packs,
        "pack_bytes": report.pack_bytes,
        "chunks": report.chunks,
        "damages": [damage._asdict() for damage in report.damages],
        "files": report.files,
        "files_concerned": report.files_concerned,
        "seconds": round(seconds, 3),
    }
