"""`fsd prefetch`, `fsd evict`, and `fsd status` of a path: what a mount's cache holds of a version, or of a part of it.

All of it is done by the daemon of the mount that the path is in; this asks it, shows how far it is, and prints what
came of it. Imports nothing that a daemon needs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import click
from click.shell_completion import CompletionItem

from fsd.config import format_size
from fsd.daemon import control_client, mounts
from fsd.errors import FsdError, NotFoundError, UsageError
from fsd_cli.bar import Bar
from fsd_cli.output import json_option, note, print_json, say
from fsd_cli.text import count, duration, shown

_FIND_TIMEOUT_S = 60.0
"""To follow a path's symlinks may take the store a while."""

ORDER_VERSION = 1
"""Of the files that `--record` writes: a line with a JSON object about them, then a JSON string a line, each a path
from the version's top."""

_LABELS = {"look": "look", "fetch": "fetch", "evict": "evict"}
_WAITING_LABEL = "wait for a reader"


class MountedPath(NamedTuple):
    """A path below a mount, with no symlink in it."""

    mount: mounts.Mount
    path: str
    """From the mountpoint."""


def find_path(path: Path) -> MountedPath:
    """The place that `path` leads to. Raises NotFoundError if there is none, or it is in no mount of ours."""
    try:
        real = mounts.within(_FIND_TIMEOUT_S, lambda: os.path.realpath(path, strict=True))
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"there is no {shown(os.fspath(path))}") from None
    except TimeoutError as error:
        raise FsdError(f"cannot find {shown(os.fspath(path))}: {error}", hint="is the mount's daemon well?") from error
    mount = mounts.mount_of(real)
    if mount is None:
        raise NotFoundError(f"{shown(os.fspath(path))} is in no mount of fsd", hint="'fsd status' lists the mounts")
    return MountedPath(mount, os.path.relpath(real, mount.mountpoint))


def _complete_path(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The shell's own completion of files."""
    return [CompletionItem(incomplete, type="file")]


_path_argument = click.argument("path", type=Path, shell_complete=_complete_path)
_order_file = click.Path(dir_okay=False, path_type=Path)


@click.command()
@_path_argument
@click.option("--pin", is_flag=True, help="Keep it: what is pinned is not evicted, until 'fsd evict --unpin'.")
@click.option("--partial", is_flag=True, help="Fetch what fits if PATH is larger than the cache has room for.")
@click.option("--record", type=_order_file, metavar="FILE", help="Fetch nothing: record in which order files are read.")
@click.option(
    "--replay",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Fetch the files that were recorded, in their order, ahead of who reads them.",
)
@json_option
def prefetch(path: Path, pin: bool, partial: bool, record: Path | None, replay: Path | None, as_json: bool) -> None:
    """Fetch all of PATH into the cache of its mount: a version, or a folder or file in one.

    Readers go first. What is there already is not fetched again, so an interrupted prefetch goes on where it stopped.

    --record writes down the order in which files below PATH are first read through the mount, until Ctrl-C. --replay
    fetches them in this order, on any machine; if PATH is larger than the cache, only so far ahead of the reader that
    nothing is evicted before it is read.
    """
    if record is not None and (pin or partial or replay is not None):
        raise UsageError("--record goes with no other option", hint="record first, then replay")
    if replay is not None and (pin or partial):
        raise UsageError("--replay goes with neither --pin nor --partial")
    place = find_path(path)
    if record is not None:
        _record(place, record)
        return
    if replay is not None:
        with replay.open(encoding="ascii") as file:
            result = result_of(control_client.replaying(place.mount, place.path, _read_order(replay, file)))
    else:
        asked = {"path": place.path, "pin": pin, "partial": partial}
        result = result_of(control_client.asking(place.mount, "prefetch", asked))
    if as_json:
        print_json(result)
        return
    left = result.get("left_bytes", 0)
    say(f"{shown(result['path'])} is in the cache{' as far as it fits' if left else ''}")
    say(f"  content  {count(result['files'], 'file')}, {format_size(result['bytes'])}")
    say(f"  fetched  {format_size(result['fetched_bytes'])}{_rate(result)}")
    if left:
        say(f"  left     {format_size(left)}")
    if result.get("pinned"):
        say("  pinned   yes")
    if result.get("unknown_paths"):
        say(f"  unknown  {count(result['unknown_paths'], 'path')} of the order: they are not in here")
    say(f"  time     {duration(result['seconds'])}")


@click.command()
@_path_argument
@click.option("--unpin", is_flag=True, help="End the pins on PATH, and on what is in it, first.")
@json_option
def evict(path: Path, unpin: bool, as_json: bool) -> None:
    """Let the cache of PATH's mount go of it: a version, or a folder or file in one.

    What is pinned stays, also if another version pinned it. It can be read as before: it is fetched again then.
    """
    place = find_path(path)
    result = result_of(control_client.asking(place.mount, "evict", {"path": place.path, "unpin": unpin}))
    if as_json:
        print_json(result)
        return
    say(f"{shown(result['path'])} is not in the cache{' but for what is pinned' if result['pinned_bytes'] else ''}")
    say(f"  content  {count(result['files'], 'file')}")
    say(f"  freed    {format_size(result['freed_bytes'])}")
    for ended in result["ended_pins"]:
        say(f"  unpinned {shown(ended)}")
    if result["pinned_bytes"]:
        hint = "" if unpin else " (--unpin ends pins on this path and below)"
        say(f"  pinned   {format_size(result['pinned_bytes'])} stay{hint}")


@click.command()
@_path_argument
@click.option("--verify", is_flag=True, help="Read and check all that is there.")
@json_option
def coverage(path: Path, verify: bool, as_json: bool) -> None:
    """Show how much of PATH is in the cache. A helper of `fsd status`."""
    place = find_path(path)
    seen = result_of(control_client.asking(place.mount, "coverage", {"path": place.path, "verify": verify}))
    if as_json:
        print_json(seen)
        return
    missing = f", {format_size(seen['missing_bytes'])} missing" if seen["missing_bytes"] else ""
    say(f"{shown(seen['path'])} {'is' if seen['complete'] else 'is not'} complete")
    say(f"  commit   {seen['commit']}")
    say(f"  files    {seen['complete_files']:,} of {seen['files']:,}")
    say(f"  cached   {format_size(seen['cached_bytes'])} of {format_size(seen['bytes'])}{missing}")
    say(f"  checked  {_checked(seen)}")
    say(f"  pinned   {_pinned(seen)}")


def _checked(seen: dict[str, Any]) -> str:
    if seen["verified"]:
        return "yes: every chunk, since the daemon started"
    return "no" if not seen["complete"] else "not yet all since the daemon started (--verify does)"


def _pinned(seen: dict[str, Any]) -> str:
    if seen["pinned"]:
        return "yes"
    return f"{format_size(seen['pinned_bytes'])} of it" if seen["pinned_bytes"] else "no"


def _rate(result: dict[str, Any]) -> str:
    if result["seconds"] < 0.05 or not result["fetched_bytes"]:
        return ""
    return f", {format_size(round(result['fetched_bytes'] / result['seconds']))}/s"


# --- asking


def result_of(asking: AbstractContextManager[Iterator[dict[str, Any]]]) -> dict[str, Any]:
    """What the daemon answers in the end; shows its progress until then."""
    bars = _Bars()
    try:
        with asking as lines:
            for line in lines:
                if "result" in line:
                    found: dict[str, Any] = line["result"]
                    return found
                bars.show(line.get("progress", {}))
    finally:
        bars.clear()
    raise AssertionError("an answer ends with its result")


class _Bars:
    """A progress bar for each phase."""

    def __init__(self) -> None:
        self._phase = ""
        self._bar: Bar | None = None

    def show(self, progress: dict[str, Any]) -> None:
        """So far it is."""
        phase = progress.get("phase")
        if phase is None:
            return
        if self._bar is None or phase != self._phase:
            self.clear()
            self._phase, self._bar = phase, Bar(_LABELS[phase])
        bar = self._bar
        bar.relabel(_WAITING_LABEL if progress.get("waiting") else _LABELS[phase])
        if "total_bytes" in progress:
            bar.expect(progress["total_bytes"], items=progress["total_files"])
        bar.advance(progress["bytes"] - bar.done.size_bytes, items=progress["files"] - bar.done.items)

    def clear(self) -> None:
        """Take it off the screen."""
        if self._bar is not None:
            self._bar.clear()


# --- orders


def _record(place: MountedPath, target: Path) -> None:
    recorded = 0
    with target.open("w", encoding="ascii") as file:
        try:
            with control_client.asking(place.mount, "record", {"path": place.path}) as lines:
                for line in lines:
                    if "path" in line:
                        _write_line(file, line["path"])
                        recorded += 1
                    elif not file.tell() and line.get("progress"):
                        _write_line(file, {"order": ORDER_VERSION, **line["progress"]})
                        note(f"recording reads of {shown(place.path)} in {target}; end with Ctrl-C")
        except KeyboardInterrupt:
            say(f"recorded {count(recorded, 'file')} in {target}")


def _write_line(file: TextIO, line: object) -> None:
    # At once: whoever kills this has what there is.
    file.write(json.dumps(line) + "\n")
    file.flush()


def _read_order(source: Path, lines: Iterable[str]) -> Iterator[str]:
    """The paths of a recording, as they are needed. The first line is looked at now. Raises UsageError."""
    rest = iter(lines)
    try:
        header = json.loads(next(rest, ""))
        version = header["order"]
    except (ValueError, KeyError, TypeError):
        version = None
    if version != ORDER_VERSION:
        raise UsageError(f"{source} is no order of reads", hint="make one with 'fsd prefetch PATH --record FILE'")
    return (json.loads(line) for line in rest if line.strip())
