"""`fsd verify`: whether everything in a store is there and is what it should be."""

from __future__ import annotations

from typing import Any

import click
import trio

from fsd.config import format_size
from fsd.errors import CorruptDataError
from fsd.maintenance.verify import Report
from fsd.maintenance.verify import verify as verify_store
from fsd_cli.context import Invocation, pass_invocation
from fsd_cli.opening import opened
from fsd_cli.output import json_option, print_json, say
from fsd_cli.progress import ProgressBar
from fsd_cli.text import count, duration, one_line, shown

SHOWN = 20
"""Damages and files shown as text; JSON has all that were kept."""


@click.command()
@click.option("--data", is_flag=True, help="Read every chunk as well: all bytes of the store.")
@json_option
@pass_invocation
def verify(invocation: Invocation, data: bool, as_json: bool) -> None:
    """Check that everything in the store is there, parses, and is what its name promises.

    Looks at all that any branch, tag or subset names or ever named. Without --data the bytes of files are not
    read: only that their packs are there and long enough. Nothing is changed. Exit code 6 if anything is wrong.
    """

    async def main() -> tuple[Report, float]:
        started = trio.current_time()
        async with opened(invocation) as repositories, ProgressBar("objects").ticking() as bar:
            report = await verify_store(repositories, _Shown(bar), data=data)
        return report, trio.current_time() - started

    report, seconds = trio.run(main)
    if as_json:
        print_json(_as_json(report, seconds))
    else:
        _print(report, seconds, data=data)
    if not report.is_whole:
        hint = "the files named above cannot be read whole; publish them again from where they came from"
        raise CorruptDataError(
            f"{count(len(report.damages), 'thing')} in {invocation.store_url} "
            f"{'is' if len(report.damages) == 1 else 'are'} damaged or missing",
            hint=hint if report.files_concerned else "",
        )


class _Shown:
    """The progress of a check, as a bar."""

    def __init__(self, bar: ProgressBar) -> None:
        self._bar = bar

    def phase(self, name: str) -> None:
        self._bar.relabel(name)

    def expect(self, size_bytes: int) -> None:
        self._bar.expect(size_bytes)

    def advance(self, objects: int, size_bytes: int) -> None:
        self._bar.advance(size_bytes, items=objects)


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
