"""`fsd delete`: take names away; what only they named goes with the next garbage collection."""

from __future__ import annotations

import click

from fsd.errors import ConflictError, NotFoundError, UsageError, near_misses
from fsd.format.ref import RefKind
from fsd.repo.refs import StoredRef, short
from fsd.repo.repository import Repositories
from fsd_cli.completion import complete_place
from fsd_cli.confirming import confirm
from fsd_cli.context import Invocation, pass_invocation
from fsd_cli.opening import run_on_store
from fsd_cli.output import json_option, note, print_json, say
from fsd_cli.repository_refs import is_named_elsewhere, read_refs
from fsd_cli.text import count

_ORDER = (RefKind.SUBSET, RefKind.TAG, RefKind.BRANCH)
"""Of deleting a repository: killed in between, what is left still makes sense."""


@click.command()
@click.argument("place", metavar="REPO[/NAME]", shell_complete=complete_place)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
@pass_invocation
def delete(invocation: Invocation, place: str, yes: bool, as_json: bool) -> None:
    """Delete a tag, branch or subset, or a whole repository.

    Commits that nothing names any more stay until 'fsd gc' finds that, and for its grace period: until then
    'fsd tag REPO COMMIT NAME' brings them back.
    """
    repository, slash, name = place.partition("/")
    if slash and not name:
        raise UsageError(f"{place!r} names nothing", hint="write REPO/NAME, or REPO for all of it")

    async def work(repositories: Repositories) -> dict[str, StoredRef]:
        refs = await read_refs(repositories, repository)
        chosen = refs if not name else {name: _pick(refs, repository, name)}
        if not yes:
            _ask(refs, chosen, repository, whole=not name)
        async with repositories.leases.held("delete"):
            await repositories.leases.take()
            if repositories.leases.sweeping.is_pending:
                raise ConflictError(
                    f"garbage is being collected in {repositories.store.url}",
                    hint="nothing was deleted; try again when 'fsd gc' is done",
                )
            for each in sorted(chosen, key=lambda each: _ORDER.index(chosen[each].ref.kind)):
                await repositories.refs.delete(repository, each, chosen[each].version)
        return chosen

    deleted = run_on_store(invocation, work)
    if as_json:
        named = {each: stored.ref.target.hex() for each, stored in deleted.items()}
        print_json({"repository": repository, "deleted": named})
        return
    for each, stored in deleted.items():
        say(f"deleted {stored.ref.kind} {each} of {repository}, which named {short(stored.ref.target)}")


def _pick(refs: dict[str, StoredRef], repository: str, name: str) -> StoredRef:
    if name not in refs:
        hint = near_misses(name, refs) or f"'fsd ls {repository}' lists branches, tags and subsets"
        raise NotFoundError(f"no branch, tag or subset {name!r} in {repository!r}", hint=hint)
    return refs[name]


def _ask(refs: dict[str, StoredRef], chosen: dict[str, StoredRef], repository: str, *, whole: bool) -> None:
    """Say what goes, and have a person confirm. Raises as `confirm`."""
    if whole:
        kinds = ", ".join(
            count(number, str(kind), f"{kind}{'es' if kind is RefKind.BRANCH else 's'}")
            for kind in RefKind
            if (number := sum(stored.ref.kind is kind for stored in chosen.values()))
        )
        note(f"{repository} has {kinds}; all of it goes")
    for name, stored in chosen.items():
        if (
            not whole
            and stored.ref.kind is not RefKind.SUBSET
            and not is_named_elsewhere(refs, name, stored.ref.target)
        ):
            note(f"nothing else names {short(stored.ref.target)}, the commit of {stored.ref.kind} {name}")
    what = (
        f"all of {repository}"
        if whole
        else f"{next(iter(chosen.values())).ref.kind} {next(iter(chosen))} of {repository}"
    )
    confirm(f"delete {what}?", otherwise="nothing was deleted")
