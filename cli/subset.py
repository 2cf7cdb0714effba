"""`fsd subset`: named parts of a revision, made by a rule and without copying a byte."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, BinaryIO

import click

from fsd.config import format_size
from fsd.errors import UsageError
from fsd.format.ref import Move, RefKind
from fsd.repo.refs import short
from fsd.repo.repository import Repositories
from fsd.repo.revisions import RevisionKind, resolve
from fsd.repo.rules import Rule, parse_percent
from fsd.repo.subsets import create_subset
from fsd.tasks import gather
from fsd_cli.completion import complete_place, complete_repository, complete_revision
from fsd_cli.context import Invocation, pass_invocation
from fsd_cli.opening import run_on_store
from fsd_cli.output import json_option, print_json, print_table, say
from fsd_cli.paths import parse_revision_argument
from fsd_cli.repository_refs import delete_ref, read_refs
from fsd_cli.text import Column, count, json_time, shown

_COLUMNS = (
    Column("NAME"),
    Column("OF"),
    Column("SUBSET"),
    Column("FILES", right=True),
    Column("SIZE", right=True),
    Column("FOLLOWS"),
    Column("RULE"),
)


@click.group()
def subset() -> None:
    """Name a part of a revision.

    A subset REPO/REV+NAME has the same paths and the same bytes as REPO/REV, only fewer of them. Shares such as
    REPO/REV+10pct need no definition.
    """


@subset.command()
@click.argument("place", metavar="REPO/REV", shell_complete=complete_place)
@click.argument("name", metavar="NAME")
@click.option("--sample", metavar="P%", help="A share of the files, always the same ones.")
@click.option("--limit", metavar="N", type=int, help="N files.")
@click.option("--per-dir", metavar="N", type=int, help="N files of each directory.")
@click.option("--include", metavar="GLOB", multiple=True, help="Only what matches one of these.")
@click.option("--exclude", metavar="GLOB", multiple=True, help="Nothing that matches one of these.")
@click.option("--keep", metavar="GLOB", multiple=True, help="Always what matches, instead of the store's usual names.")
@click.option("--no-keep", is_flag=True, help="Keep nothing that the rest of the rule leaves out.")
@click.option(
    "--list",
    "listed",
    metavar="FILE",
    type=click.File("rb"),
    help="The paths in FILE (- is standard input), one a line.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed samples other files.")
@click.option("--follow", is_flag=True, help="REV is a branch: its later commits get this subset too.")
@click.option("-f", "--force", is_flag=True, help="Replace a subset of that name.")
@json_option
@pass_invocation
def create(
    invocation: Invocation,
    place: str,
    name: str,
    sample: str | None,
    limit: int | None,
    per_dir: int | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    keep: tuple[str, ...],
    no_keep: bool,
    listed: BinaryIO | None,
    seed: int,
    follow: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Make a subset of a revision.

    Files are sampled by a hash of their path without its extensions: x.jpg and x.json stay together, 1% is contained in
    10%, and a file that is in stays in when the dataset grows. All directories stay, and so do labels, READMEs and
    metadata, unless --keep says otherwise.
    """
    if keep and no_keep:
        raise UsageError("--keep and --no-keep contradict each other")
    paths = None if listed is None else read_paths(listed.read())
    if (sample, limit, per_dir, include, exclude, paths) == (None, None, None, (), (), None):
        raise UsageError(
            "a subset takes a rule", hint="give --sample, --limit, --per-dir, --include, --exclude or --list"
        )

    async def work(repositories: Repositories) -> None:
        repository, revision = parse_revision_argument(place)
        resolved = await resolve(repositories, repository, revision)
        if resolved.subset is not None:
            raise UsageError(f"{revision!r} is a subset already", hint=f"take the subset of {resolved.name!r}")
        if follow and resolved.kind is not RevisionKind.BRANCH:
            raise UsageError(f"{revision!r} is not a branch", hint="--follow takes a branch: nothing else moves")
        made = await create_subset(
            repositories,
            repository,
            resolved.commit,
            name,
            Rule(
                sample_percent=None if sample is None else parse_percent(sample),
                limit=limit,
                per_dir=per_dir,
                include=include,
                exclude=exclude,
                keep=() if no_keep else keep or repositories.marker.keep,
                paths=paths,
                seed=seed,
            ),
            follow_branch=resolved.name if follow else None,
            force=force,
        )
        if as_json:
            print_json(
                {
                    "name": name,
                    "source": made.source.hex(),
                    "subset": made.id.hex(),
                    "files": made.totals.files,
                    "bytes": made.totals.bytes,
                }
            )
        else:
            files = count(made.totals.files, "file")
            say(f"{repository}/{revision}+{name} has {files}, {format_size(made.totals.bytes)}")

    run_on_store(invocation, work)


@subset.command("list")
@click.argument("repository", metavar="REPO", shell_complete=complete_repository)
@json_option
@pass_invocation
def list_(invocation: Invocation, repository: str, as_json: bool) -> None:
    """List the named subsets of a repository."""

    async def work(repositories: Repositories) -> None:
        rows = await _load(repositories, repository)
        if as_json:
            print_json(rows)
        else:
            print_table(_COLUMNS, [_cells(row) for row in rows])

    run_on_store(invocation, work)


@subset.command()
@click.argument("repository", metavar="REPO", shell_complete=complete_repository)
@click.argument("name", metavar="NAME", shell_complete=complete_revision)
@pass_invocation
def delete(invocation: Invocation, repository: str, name: str) -> None:
    """Delete a subset, for all revisions. The files stay where they are."""

    async def work(repositories: Repositories) -> None:
        await delete_ref(repositories, repository, name, RefKind.SUBSET, force=False)

    run_on_store(invocation, work)


def read_paths(data: bytes) -> tuple[bytes, ...]:
    """The paths in a list: ended by NUL if there is one (find -print0), else by a line end. Raises UsageError."""
    end = b"\0" if b"\0" in data else b"\n"
    paths = tuple(path.removeprefix(b"./").strip(b"/") for path in data.split(end) if path)
    if not paths:
        raise UsageError("the list of paths is empty")
    return paths


async def _load(repositories: Repositories, repository: str) -> list[dict[str, Any]]:
    """A row for each subset and each commit that it was taken from, the last first."""
    refs = await read_refs(repositories, repository)
    names_of: dict[bytes, str] = {}
    for kind in (RefKind.BRANCH, RefKind.TAG):  # a tag says more: it stays
        names_of |= {stored.ref.target: name for name, stored in refs.items() if stored.ref.kind is kind}
    wanted: list[tuple[str, Move, list[str]]] = []
    for name, stored in refs.items():
        if stored.ref.kind is RefKind.SUBSET:
            seen: set[bytes | None] = set()
            async for move in repositories.refs.history(stored.ref):
                if move.source not in seen:
                    seen.add(move.source)
                    wanted.append((name, move, sorted(stored.ref.follow)))
    headers = await gather(
        repositories.commit, [move.commit for _, move, _ in wanted], tasks=repositories.limits.fetch_requests
    )
    return [
        {
            "name": name,
            "source": move.source.hex() if move.source else None,
            "source_name": names_of.get(move.source or b""),
            "subset": move.commit.hex(),
            "files": header.totals.files,
            "bytes": header.totals.bytes,
            "time": json_time(move.time_us),
            "follows": follows,
            "rule": dict(header.rule or {}),
        }
        for (name, move, follows), header in zip(wanted, headers, strict=True)
    ]


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        row["name"],
        row["source_name"] or short(bytes.fromhex(row["source"] or "")),
        short(bytes.fromhex(row["subset"])),
        f"{row['files']:,}",
        format_size(row["bytes"]),
        ", ".join(row["follows"]) or "-",
        describe(row["rule"]),
    ]


def describe(rule: Mapping[str, Any]) -> str:
    """A rule on one line, without what every subset keeps."""
    parts = []
    if "paths" in rule:
        paths = rule["paths"]
        listed = paths["count"] if isinstance(paths, Mapping) else len(paths)
        parts.append(f"{listed:,} listed")
    for name, sign in (("include", ""), ("exclude", "not ")):
        parts += (sign + (pattern if isinstance(pattern, str) else "(not text)") for pattern in rule.get(name, ()))
    if "sample_percent" in rule:
        parts.append(f"{rule['sample_percent']}%")
    for name, text in (("per_dir", "{:,} per directory"), ("limit", "{:,} files"), ("seed", "seed {}")):
        if name in rule:
            parts.append(text.format(rule[name]))
    return shown(", ".join(parts))
