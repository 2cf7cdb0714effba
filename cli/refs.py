"""`fsd tag` and `fsd branch`: names of commits, made, moved, listed and deleted."""

from __future__ import annotations

import click

from fsd.errors import ConflictError, UsageError
from fsd.format.ref import RefKind
from fsd.repo.refs import short
from fsd.repo.repository import Repositories
from fsd.repo.revisions import Resolved, resolve
from fsd.repo.subsets import follow_branch_moved
from fsd_cli.completion import complete_repository, complete_revision
from fsd_cli.context import Invocation, pass_invocation
from fsd_cli.opening import run_on_store
from fsd_cli.output import json_option, say
from fsd_cli.paths import DEFAULT_BRANCH
from fsd_cli.repository_refs import delete_ref, pick_ref, print_refs, read_refs


@click.command()
@click.argument("repository", metavar="REPO", shell_complete=complete_repository)
@click.argument("revision", metavar="[REV]", required=False, shell_complete=complete_revision)
@click.argument("name", metavar="[NAME]", required=False)
@click.option("-l", "--list", "listing", is_flag=True, help="List tags; also without REV and NAME.")
@click.option("-d", "--delete", "deleted", metavar="NAME", help="Delete the tag NAME.")
@click.option("-f", "--force", is_flag=True, help="Replace the tag, or delete it though nothing else names its commit.")
@json_option
@pass_invocation
def tag(
    invocation: Invocation,
    repository: str,
    revision: str | None,
    name: str | None,
    listing: bool,
    deleted: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Name a revision for good; list or delete tags.

    \b
    fsd tag REPO REV NAME     make a tag
    fsd tag REPO              list tags
    fsd tag REPO -d NAME      delete a tag
    """
    _check_one_action(listing, deleted, revision)

    async def work(repositories: Repositories) -> None:
        if deleted is not None:
            await delete_ref(repositories, repository, deleted, RefKind.TAG, force=force)
        elif revision is None:
            await print_refs(repositories, repository, (RefKind.TAG,), as_json=as_json)
        elif name is None:
            raise UsageError("a tag takes a revision and a name", hint="write: fsd tag REPO REV NAME")
        else:
            commit = await _resolve_commit(repositories, repository, revision)
            summary = (await repositories.commit(commit)).summary
            async with repositories.leases.held("tag"):
                await repositories.leases.check_kept(commit)
                await repositories.refs.set_tag(repository, name, commit, summary=summary, force=force)
            say(f"tag {name} of {repository} names {short(commit)}")

    run_on_store(invocation, work)


@click.command()
@click.argument("repository", metavar="REPO", shell_complete=complete_repository)
@click.argument("name", metavar="[NAME]", required=False, shell_complete=complete_revision)
@click.argument("revision", metavar="[REV]", required=False, shell_complete=complete_revision)
@click.option("-l", "--list", "listing", is_flag=True, help="List branches; also without NAME.")
@click.option("-d", "--delete", "deleted", metavar="NAME", help="Delete the branch NAME.")
@click.option("--to", "target", metavar="REV", help="Move the branch to REV.", shell_complete=complete_revision)
@click.option("-f", "--force", is_flag=True, help="Delete the branch though nothing else names its commit.")
@json_option
@pass_invocation
def branch(
    invocation: Invocation,
    repository: str,
    name: str | None,
    revision: str | None,
    listing: bool,
    deleted: str | None,
    target: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """List, make, move or delete branches.

    \b
    fsd branch REPO                  list branches
    fsd branch REPO NAME [REV]       make a branch at REV, by default main
    fsd branch REPO NAME --to REV    move a branch to REV, to revert it for example
    fsd branch REPO -d NAME          delete a branch

    Moving takes nothing away: 'fsd log REPO/NAME --moves' shows where the branch was.
    """
    _check_one_action(listing, deleted, name)
    if target is not None and (name is None or revision is not None):
        raise UsageError("--to takes the repository and one branch", hint="write: fsd branch REPO NAME --to REV")
    if force and deleted is None:
        raise UsageError("--force is for deleting", hint="'fsd branch REPO NAME --to REV' moves a branch")

    async def work(repositories: Repositories) -> None:
        if deleted is not None:
            await delete_ref(repositories, repository, deleted, RefKind.BRANCH, force=force)
        elif name is None:
            await print_refs(repositories, repository, (RefKind.BRANCH,), as_json=as_json)
        elif target is not None:
            await _move_branch(repositories, repository, name, target)
        else:
            await _make_branch(repositories, repository, name, revision or DEFAULT_BRANCH)

    run_on_store(invocation, work)


def _check_one_action(listing: bool, deleted: str | None, further: str | None) -> None:
    if deleted is not None and (listing or further is not None):
        raise UsageError("--delete takes the repository and one name", hint="write: fsd tag|branch REPO --delete NAME")
    if listing and further is not None:
        raise UsageError("--list takes the repository alone")


async def _resolve_commit(repositories: Repositories, repository: str, revision: str) -> bytes:
    """The commit that a revision means, where a subset has no place."""
    resolved: Resolved = await resolve(repositories, repository, revision)
    if resolved.subset is not None:
        raise UsageError(
            f"{revision!r} is a subset, tags and branches name commits",
            hint=f"name {resolved.name!r}; whatever names it has +{resolved.subset.name} too",
        )
    return resolved.commit


async def _make_branch(repositories: Repositories, repository: str, name: str, revision: str) -> None:
    commit = await _resolve_commit(repositories, repository, revision)
    stored = await repositories.refs.read(repository, name)
    if stored is not None and stored.ref.kind is RefKind.BRANCH and stored.ref.target != commit:
        raise ConflictError(
            f"branch {name!r} of {repository!r} already exists, at {short(stored.ref.target)}",
            hint=f"choose another name, or move it: fsd branch {repository} {name} --to {revision}",
        )
    summary = (await repositories.commit(commit)).summary
    async with repositories.leases.held("make a branch"):
        await repositories.leases.check_kept(commit)
        await repositories.refs.move_branch(repository, name, commit, expected=None, summary=summary)
        await follow_branch_moved(repositories, repository, name, commit)
    say(f"branch {name} of {repository} names {short(commit)}")


async def _move_branch(repositories: Repositories, repository: str, name: str, revision: str) -> None:
    """A further entry in the branch's history, wherever it leads: reverting loses nothing."""
    refs = await read_refs(repositories, repository)
    before = pick_ref(refs, repository, name, RefKind.BRANCH).ref.target
    commit = await _resolve_commit(repositories, repository, revision)
    summary = f"moved to {revision}: {(await repositories.commit(commit)).summary}"
    async with repositories.leases.held("move a branch"):
        await repositories.leases.check_kept(commit)
        await repositories.refs.move_branch(repository, name, commit, expected=before, summary=summary)
        # Also where the branch was there already: whoever moved it may have been killed before this.
        await follow_branch_moved(repositories, repository, name, commit)
    if commit == before:
        say(f"branch {name} of {repository} is at {short(commit)} already")
        return
    say(f"branch {name} of {repository} names {short(commit)}")
    say(f"  before   {short(before)}, which 'fsd log {repository}/{name} --moves' goes on showing")
