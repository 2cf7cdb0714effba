"""`fsd exp lineage`: which run, data and code made a file, back to the roots."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click

from fsd.daemon import mounts
from fsd.errors import NotFoundError, UsageError
from fsd.repo.refs import short
from fsd.repo.repository import Repositories
from fsd.runs.lineage import Data, Lineage, Made, Wanted, local_files, wanted_at
from fsd.runs.rows import read_named_rows
from fsd.runs.table import params_of
from fsd_cli.completion import complete_place
from fsd_cli.context import Invocation, pass_invocation
from fsd_cli.exp_runs import short_id
from fsd_cli.exp_values import plain
from fsd_cli.opening import run_on_store
from fsd_cli.output import json_option, print_json, say
from fsd_cli.paths import DEFAULT_BRANCH, Place, parse_place
from fsd_cli.prefetch import find_path
from fsd_cli.text import count, json_time, local_time, shown

_SHOWN_PARAMS = 12


class _Asked(NamedTuple):
    """What was asked about: a place in a store, or files of this machine."""

    place: Place | None
    files: tuple[tuple[bytes, bytes], ...]
    store: str | None


@click.command("lineage")
@click.argument("path", metavar="PATH|REPO/REV[/PATH]", shell_complete=complete_place)
@json_option
@pass_invocation
def show_lineage(invocation: Invocation, path: str, as_json: bool) -> None:
    """Show which run, data and code made a file or folder, back to the roots.

    \b
    fsd exp lineage /fsd/resnet/main/model.bin     a file in a mount
    fsd exp lineage resnet/v3/model.bin            the same in the store
    fsd exp lineage out/model.bin                  an output in the work tree

    The run is the first whose outputs are that version, or have files of that content. Its inputs are what it read, if
    that was observed, and else what its pins and params lead to; each is followed to the run that made it.
    """
    asked = _parse(path)
    if asked.store is not None:
        invocation = dataclasses.replace(invocation, store=asked.store)

    async def work(repositories: Repositories) -> Made | None:
        rows = await read_named_rows(repositories, "", invocation.state)
        lineage = Lineage(repositories, rows, await repositories.runs.replaced())
        if asked.place is None:
            return await lineage.of(Wanted(asked.files))
        return await lineage.of(await wanted_at(repositories, *asked.place))

    made = run_on_store(invocation, work)
    if as_json:
        print_json({"path": path, "made_by": None if made is None else _made_json(made)})
        return
    say(shown(path))
    for line in _made_lines(made) if made is not None else ["└─ no run is known to have made it"]:
        say(line)


def _parse(text: str) -> _Asked:
    """What is there on this machine is meant first; what leads into a mount, as the store has it."""
    path = Path(text)
    mount = mounts.mount_of(path)
    if mount is not None:
        mounted = find_path(path)
        place = parse_place(mounted.path)
        if not place.revision:
            raise UsageError(f"{text!r} is not below a version", hint="go on to a version: REPO/REV")
        return _Asked(place, (), mount.source)
    if path.exists():
        return _Asked(None, local_files(path), None)
    if text.startswith(("/", "./", "../")):
        raise NotFoundError(f"there is no {shown(text)}")
    place = parse_place(text)
    return _Asked(place._replace(revision=place.revision or DEFAULT_BRANCH), (), None)


# --- as text


def _made_lines(made: Made) -> Iterator[str]:
    start = made.run.start
    name = f" {shown(start.label)}" if start.label else ""
    how = ", by its content" if made.by_content else ""
    more = f"; {count(made.others, 'later run')} made the same" if made.others else ""
    yield f"└─ run {short_id(start.name.run)}{name} of {start.name.repository}, {local_time(start.time_us)}{how}{more}"
    if made.is_repeated:
        yield "   └─ see above"
        return
    where = f" in {shown(start.directory)}" if start.directory else ""
    branches: list[list[str]] = [[f"command  {shown(shlex.join(start.argv))}{where}"]]
    if start.code is not None:
        git = start.git or {}
        commit, branch = (shown(str(git.get(key, ""))) for key in ("commit", "branch"))
        changed = ", with changes" if git.get("is_changed") else ""
        on = f" (git {commit[:12]} {branch}{changed})" if commit else ""
        branches.append([f"code     {start.name.repository}/{short(start.code.commit)}{on}"])
    params = sorted(params_of(made.run).items())
    if params:
        few = ", ".join(f"{shown(key)}={plain(value)}" for key, value in params[:_SHOWN_PARAMS])
        more = f", and {len(params) - _SHOWN_PARAMS} more" if len(params) > _SHOWN_PARAMS else ""
        branches.append([f"params   {few}{more}"])
    branches += [_data_lines(data) for data in made.inputs]
    if not made.inputs:
        is_known = made.run.end is not None and not made.run.end.inputs.problem
        branches.append(
            ["data     nothing of the store" if is_known else "data     no pins, and what it read was not observed"]
        )
    for number, lines in enumerate(branches, 1):
        is_last = number == len(branches)
        yield f"   {'└─' if is_last else '├─'} {lines[0]}"
        for line in lines[1:]:
            yield f"   {'  ' if is_last else '│ '} {line}"


def _data_lines(data: Data) -> list[str]:
    by = f" ({', '.join(map(shown, data.links))})" if data.links else ""
    subset = f", a subset of {data.subset_of[:12]}" if data.subset_of else ""
    said = f", {shown(data.summary)}" if data.summary else ""
    who = f" by {shown(data.author)}" if data.author else ""
    when = f", {local_time(data.time_us)}" if data.time_us else ""
    line = f"data     {data.repository}/{data.commit[:12]}{by}{subset}{said}{who}{when}"
    return [line, *(_made_lines(data.made_by) if data.made_by is not None else [])]


# --- as JSON


def _made_json(made: Made) -> dict[str, Any]:
    start, end = made.run.start, made.run.end
    return {
        "run": start.name.run,
        "repository": start.name.repository,
        "name": start.label,
        "author": start.author,
        "started": json_time(start.time_us),
        "argv": list(start.argv),
        "directory": start.directory,
        "code": None if start.code is None else start.code.commit.hex(),
        "git": start.git,
        "params": params_of(made.run),
        "metrics": {} if end is None else dict(end.metrics),
        "by_content": made.by_content,
        "later_runs": made.others,
        "observed": end is not None and not end.inputs.problem,
        "repeated": made.is_repeated,
        "inputs": [_data_json(data) for data in made.inputs],
    }


def _data_json(data: Data) -> dict[str, Any]:
    return {
        "links": list(data.links),
        "repository": data.repository,
        "commit": data.commit,
        "subset_of": data.subset_of,
        "author": data.author,
        "message": data.summary,
        "time": json_time(data.time_us),
        "made_by": None if data.made_by is None else _made_json(data.made_by),
    }
