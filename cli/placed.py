"""The outputs of a run put in place: links into the mount, or copies; and what a HIT says."""

from __future__ import annotations

import io
import os
import tempfile
import time
from collections.abc import Mapping
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path

import click

from fsd.clock import now_us
from fsd.daemon import mounts
from fsd.format.run import RunEnd, StoredTree
from fsd.runs import nested
from fsd.runs.known_outputs import add_outputs
from fsd.runs.links import below
from fsd.runs.placing import place_files, place_links
from fsd.runs.wanted import Wanted
from fsd.runs.written import put_written
from fsd_cli.context import Invocation, run_command
from fsd_cli.output import note
from fsd_cli.text import duration, shown

_SHOWN_DIGITS = 8
_SHOWN_METRICS = 3
_DAY_S = 86_400

_APPEARS_WITHIN_S = 6.0
"""As long as a mount may take to show a new repository, or that there is something which it took for missing."""
_PATIENCE_S = 0.1


def put_links(wanted: Wanted, end: RunEnd) -> bool:
    """Let the outputs of a run be links into the mount, if that is there."""
    if end.outputs is None:
        return True
    version = _version_in_mount(wanted, end.outputs)
    if version is None:
        if any(mount.type == mounts.FILESYSTEM_TYPE for mount in mounts.list_mounts()):
            note("the outputs stay plain files: the store is not mounted here")
        return False
    place_links(wanted.top, wanted.output_paths, version)
    return True


def put_hit(invocation: Invocation, wanted: Wanted, end: RunEnd, written: Mapping[str, bytes], *, copy: bool) -> None:
    """Put in place what an earlier run made, `written` are its files of metrics, and say so."""
    if end.outputs is not None and wanted.outputs and (copy or not put_links(wanted, end)):
        _put_copies(wanted, end.outputs)
    put_written(wanted.directory, written)
    here = below(wanted.directory, wanted.top)
    theirs = [*wanted.output_paths, *(os.path.join(here, path) for path in written)]
    add_outputs(invocation.state, wanted.top, theirs, wanted.step)
    nested.report(wanted.variables, end.name, end, is_hit=True)
    note(f"HIT: run {end.name.run[:_SHOWN_DIGITS]} of {_age(end)} ago{_metrics(end)}")


def _version_in_mount(wanted: Wanted, tree: StoredTree) -> str | None:
    """The folder of a commit in a mount that answers."""
    for mountpoint in wanted.mountpoints:
        mount = mounts.mount_at(mountpoint)
        if mount is None or mount.type != mounts.FILESYSTEM_TYPE:
            continue
        version = os.path.join(mountpoint, wanted.repository, tree.commit.hex())
        try:
            if mounts.within(_APPEARS_WITHIN_S + mounts.STATUS_TIMEOUT_S, partial(_appears, version)):
                return version
        except TimeoutError:
            continue
    return None


def _appears(version: str) -> bool:
    """Whether it is there, or comes: in a repository that had neither refs nor runs, as soon as the mount has heard of
    it."""
    deadline = time.monotonic() + _APPEARS_WITHIN_S
    while not os.path.isdir(version):
        if time.monotonic() > deadline:
            return False
        time.sleep(_PATIENCE_S)
    return True


def _put_copies(wanted: Wanted, tree: StoredTree) -> None:
    """Plain files. What is there already stays, if it is just that: nothing else can be there."""
    with tempfile.TemporaryDirectory(prefix=".fsd-aside-", dir=wanted.top) as folder:
        checked_out = Path(folder, "outputs")
        _check_out(wanted, tree, checked_out)
        place_files(wanted.top, wanted.output_paths, checked_out)


def _check_out(wanted: Wanted, tree: StoredTree, folder: Path) -> None:
    """By the command, which nobody else needs to import."""
    place = f"{wanted.repository}/{tree.commit.hex()}"
    with redirect_stdout(io.StringIO()):
        run_command(click.get_current_context(), "checkout", place=place, directory=folder, as_json=False)


def _age(end: RunEnd) -> str:
    seconds = max(0.0, (now_us() - end.time_us) / 1e6)
    days = int(seconds // _DAY_S)
    return f"{days} day{'s' if days > 1 else ''}" if days else duration(seconds)


def _metrics(end: RunEnd) -> str:
    some = [f"{name} {value:.6g}" for name, value in sorted(end.metrics.items())[:_SHOWN_METRICS]]
    more = ", …" if len(end.metrics) > _SHOWN_METRICS else ""
    return shown(f" ({', '.join(some)}{more})") if some else ""
