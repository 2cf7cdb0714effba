"""`fsd gc`: delete what nothing needs any more, carefully."""

from __future__ import annotations

from dataclasses import asdict

import click
import trio

from fsd.config import format_size
from fsd.errors import UsageError
from fsd.maintenance.expiry import Keep
from fsd.maintenance.gc import DEFAULT_GRACE_S, Collected, Policy, collect
from fsd_cli.completion import complete_repository
from fsd_cli.context import Invocation, pass_invocation
from fsd_cli.opening import opened
from fsd_cli.output import json_option, print_json, say
from fsd_cli.progress import ProgressBar, StoreWork
from fsd_cli.spans import SPAN
from fsd_cli.text import count, duration


@click.command()
@click.argument("repositories", metavar="[REPO]...", nargs=-1, shell_complete=complete_repository)
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--keep-last", type=click.IntRange(1), metavar="N", help="Expire: keep the last N of each branch.")
@click.option("--keep-within", type=SPAN, metavar="SPAN", help="Expire: keep what is younger, such as 90d.")
@click.option("--keep-tags", is_flag=True, help="Expire: keep also what tags named before they were moved.")
@click.option(
    "--grace",
    type=SPAN,
    default=DEFAULT_GRACE_S,
    show_default="14d",
    metavar="SPAN",
    help="Delete what was found unneeded so long ago. With 0 at once: readers may lose what they have open.",
)
@click.option(
    "--wait", type=SPAN, default=0.0, show_default="0s", metavar="SPAN", help="Wait so long for publishers at work."
)
@click.option(
    "--repack",
    type=click.IntRange(0, 100),
    default=50,
    show_default=True,
    metavar="PERCENT",
    help="Copy what is needed out of packs of which less than this is; 0 for never.",
)
@json_option
@pass_invocation
def gc(
    invocation: Invocation,
    repositories: tuple[str, ...],
    dry_run: bool,
    keep_last: int | None,
    keep_within: float | None,
    keep_tags: bool,
    grace: float,
    wait: float,
    repack: int,
    as_json: bool,
) -> None:
    """Delete what nothing needs any more.

    That is what no branch, tag or subset names, or ever named, and what publishers that were killed left behind. It
    is written down first, and deleted by a later run, when the grace period is over: mounts that read it do not lose
    it. Run it from time to time, from any machine, also while others publish.

    Whatever a branch ever pointed to is kept, unless one of the --keep options is given: then older commits expire, of
    all repositories or of those named. What a branch or tag names now never does, and log goes on showing all commits.
    """
    expires = keep_last is not None or keep_within is not None or keep_tags
    if repositories and not expires:
        raise UsageError(
            "garbage is collected in the whole store",
            hint="repositories are named for --keep-last, --keep-within or --keep-tags to expire their commits",
        )
    keep = None
    if expires:
        keep = Keep(keep_last or 1, round((keep_within or 0) * 1e6), keep_tags, repositories)
    policy = Policy(grace, wait, keep, repack / 100)

    async def main() -> tuple[Collected, float]:
        started = trio.current_time()
        async with opened(invocation) as store, ProgressBar("sweep").ticking() as bar:
            collected = await collect(store, policy, StoreWork(bar), dry_run=dry_run)
        return collected, trio.current_time() - started

    collected, seconds = trio.run(main)
    if as_json:
        print_json({**asdict(collected), "dry_run": dry_run, "seconds": round(seconds, 3)})
    else:
        _print(collected, seconds, dry_run=dry_run, at_once=not grace)


def _print(collected: Collected, seconds: float, *, dry_run: bool, at_once: bool) -> None:
    would = "would be " if dry_run else ""
    say(f"  needed     {collected.reached_objects:,} objects, {count(collected.reached_packs, 'pack')}")
    if collected.expired_commits:
        say(f"  expired    {count(collected.expired_commits, 'commit')}{' (would)' if dry_run else ''}")
    spared = f"; {collected.spared_objects:,} are in use again" if collected.spared_objects else ""
    say(f"  deleted    {_amount(collected.deleted_objects, collected.deleted_bytes, would)}{spared}")
    repacked = collected.repacked
    if repacked.packs:
        say(
            f"  repacked   {count(repacked.packs, 'pack')} {would}copied: {format_size(repacked.copied_bytes)} needed, "
            f"{format_size(repacked.dead_bytes)} not"
        )
    condemned = _amount(collected.condemned_objects, collected.condemned_bytes, would)
    say(f"  condemned  {condemned}{'' if at_once else ', for a later run'}")
    say(f"  time       {duration(seconds)}")
    for line in collected.waiting:
        say(f"  {line}")


def _amount(objects: int, size: int, would: str) -> str:
    return f"{would}{count(objects, 'object')}, {format_size(size)}"
