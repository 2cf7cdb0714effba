"""What `fsd status` shows of a Git work tree: each pin, how it stands, and what is wrong with it.

Imports nothing that opens a store, which would take longer than all the rest: a daemon that has the store mounted is
asked first, and only where there is none, or the answer has to be the store's own, is it opened.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from fsd.config import format_size
from fsd.daemon import control_client, mounts
from fsd.errors import FsdError, NotFoundError, StoreUnreachableError
from fsd.pins.findings import Findings, Question
from fsd.pins.manifest import FILE_NAME
from fsd_cli.context import Invocation, pass_invocation, run_command
from fsd_cli.output import json_option, note, print_json, print_table, say
from fsd_cli.text import Column, count, shown
from fsd_cli.worktrees import Pin, WorkTree, work_tree_at

_SHOWN_DIGITS = 12
"""Of a commit's id."""

_COLUMNS = (Column("LINK"), Column("PIN"), Column("TAGS"), Column("BEHIND"), Column("HERE"))
_CACHED_COLUMN = Column("CACHED")


class _Row(NamedTuple):
    """A pin and all that is known of it."""

    pin: Pin
    branch: str
    is_here: bool | None
    """Whether its path exists on this machine; None if the mount does not answer."""
    findings: Findings | None
    """None if the store could not be asked."""


@click.command(hidden=True)
@click.argument("path", type=Path)
@click.option("--check", is_flag=True)
@json_option
@pass_invocation
@click.pass_context
def pins_status(context: click.Context, invocation: Invocation, path: Path, check: bool, as_json: bool) -> None:
    """Show the pins of the Git work tree around PATH, or check them. `fsd status` runs this."""
    tree = work_tree_at(path)
    if check:
        _check(context, invocation, tree)
    else:
        _show(context, invocation, tree, as_json=as_json)


def _show(context: click.Context, invocation: Invocation, tree: WorkTree, *, as_json: bool) -> None:
    """Print every pin. A store that cannot be reached is a note: what is known without it is shown."""
    pins = tree.pins()
    here = _are_here(tree, pins)
    questions = [
        Question(pin.target, tree.followed(pin.link), is_here=bool(exists))
        for pin, exists in zip(pins, here, strict=True)
    ]
    try:
        findings: Sequence[Findings | None] = _ask_mount(tree, questions) or _ask_store(
            context, invocation, tree, questions
        )
    except (NotFoundError, StoreUnreachableError, control_client.ControlError) as error:
        note(f"tags and branches are not shown: {error}")
        findings = [None] * len(pins)
    rows = [
        _Row(pin, tree.followed(pin.link), exists, found)
        for pin, exists, found in zip(pins, here, findings, strict=True)
    ]
    if as_json:
        print_json([_as_json(row) for row in rows])
        return
    if not rows:
        say("no pins")
        return
    cached = [_cached(row) for row in rows]
    if any(cached):
        print_table(
            (*_COLUMNS, _CACHED_COLUMN), [(*_cells(row), shown) for row, shown in zip(rows, cached, strict=True)]
        )
    else:
        print_table(_COLUMNS, [_cells(row) for row in rows])
    for row in rows:
        if row.findings is not None and row.findings.problem:
            say(f"{shown(row.pin.link)}: {row.findings.problem}")
    if any(row.is_here is False for row in rows):
        note(f"not all of it is here: 'fsd up' mounts the store at {tree.mountpoint}")


def _check(context: click.Context, invocation: Invocation, tree: WorkTree) -> None:
    """Print what is wrong with the pins, and raise FsdError if anything is. Needs the store, and no mount."""
    pins = tree.pins()
    findings = _ask_store(context, invocation, tree, [Question(pin.target, tree.followed(pin.link)) for pin in pins])
    problems = [(pin.link, found.problem) for pin, found in zip(pins, findings, strict=True) if found.problem]
    links = {pin.link for pin in pins}
    followed = tree.manifest.follow if tree.manifest is not None else {}
    problems += [
        (link, f"[follow] in {FILE_NAME} names it, but it is no pin") for link in followed if link not in links
    ]
    for link, problem in problems:
        say(f"{shown(link)}: {problem}")
    if problems:
        raise FsdError(
            f"{count(len(problems), 'problem')} with the {count(len(pins), 'pin')} of {tree.top}",
            hint="'fsd pin LINK REV' gives a pin another revision",
        )


def _ask_mount(tree: WorkTree, questions: Sequence[Question]) -> Sequence[Findings] | None:
    """Ask the daemon that has the store mounted. None if there is none, or it is not ours to ask."""
    mount = mounts.mount_at(tree.mountpoint)
    if mount is None or mount.type != mounts.FILESYSTEM_TYPE:
        return None
    if tree.manifest is None or not tree.manifest.is_store(mount.source):
        return None
    try:
        with control_client.asking(mount, "pins", {"pins": [question.to_json() for question in questions]}) as lines:
            result = next(line["result"] for line in lines if "result" in line)
    except control_client.ControlError:
        raise  # the store's, and the store would only say it again
    except FsdError:
        return None
    return [Findings.from_json(found) for found in result["pins"]]


def _ask_store(
    context: click.Context, invocation: Invocation, tree: WorkTree, questions: Sequence[Question]
) -> Sequence[Findings]:
    if not questions:
        return []
    found: Sequence[Findings] = run_command(
        context, "examine_pins", invocation=tree.meant(invocation), questions=questions
    )
    return found


def _are_here(tree: WorkTree, pins: Sequence[Pin]) -> Sequence[bool | None]:
    known: list[bool | None] = []

    def look() -> None:
        known.extend(os.path.exists(tree.top / pin.link) for pin in pins)

    try:
        mounts.within(mounts.STATUS_TIMEOUT_S, look)
    except TimeoutError:
        note(f"the mount at {tree.mountpoint} does not answer")
    return [*known, *[None] * len(pins)][: len(pins)]


def _as_json(row: _Row) -> dict[str, Any]:
    target, findings = row.pin.target, row.findings
    return {
        "link": row.pin.link,
        "target": row.pin.text,
        "repository": target.repository,
        "revision": target.base,
        "subset": target.subset or None,
        "path": target.path or None,
        "commit": findings.commit.hex() if findings and findings.commit else None,
        "tags": list(findings.tags) if findings else None,
        "branch": row.branch,
        "behind": findings.behind if findings else None,
        "here": row.is_here,
        "bytes": findings.size_bytes if findings else None,
        "cached_bytes": findings.cached_bytes if findings else None,
        "problem": (findings.problem or None) if findings else None,
    }


def _cells(row: _Row) -> Sequence[str]:
    target, findings = row.pin.target, row.findings
    base = target.base[:_SHOWN_DIGITS] if target.is_fixed else shown(target.base)
    what = f"{target.repository}/{base}" + (f"+{target.subset}" if target.subset else "")
    what += f"/{shown(target.path)}" if target.path else ""
    here = "?" if row.is_here is None else "yes" if row.is_here else "no"
    if findings is None:
        return shown(row.pin.link), what, "?", "?", here
    return shown(row.pin.link), what, ", ".join(findings.tags) or "-", _behind(row, findings), here


def _cached(row: _Row) -> str:
    """'1.2 GiB of 3.4 GiB'; '' where it is not known."""
    findings = row.findings
    if findings is None or findings.size_bytes is None or findings.cached_bytes is None:
        return ""
    return f"{format_size(findings.cached_bytes)} of {format_size(findings.size_bytes)}"


def _behind(row: _Row, findings: Findings) -> str:
    if findings.commit is None or not findings.has_branch:
        return "-"
    if findings.behind is None:
        return f"not on {row.branch}"
    return f"{findings.behind} behind {row.branch}" if findings.behind else f"at {row.branch}"
