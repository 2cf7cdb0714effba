"""Landing: a tree that is durable becomes a commit, the commit a branch's tip, and what follows from that.

The order of writes: commit, then branch, by compare-and-swap against the commit that it named when the work began, then
the tag and the subsets that follow the branch. Whoever is killed before the branch moves leaves garbage; whoever is
killed after it leaves a commit that stands, and the next one to land on the branch takes its subsets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fsd.errors import ConflictError, FsdError, UsageError
from fsd.format.commit import Commit, check_words, encode_commit
from fsd.format.index import Totals
from fsd.format.keys import ObjectKind, check_ref_name, check_repository_name
from fsd.format.ref import RefKind
from fsd.publish.merge import merge_trees
from fsd.repo.ancestry import common_ancestor
from fsd.repo.builder import Built
from fsd.repo.refs import short
from fsd.repo.repository import Repositories
from fsd.repo.subsets import CreatedSubset, follow_branch_moved

DEFAULT_BRANCH = "main"


@dataclass(frozen=True, slots=True)
class Request:
    """What to commit to which branch, and what to say of it."""

    repository: str
    branch: str = DEFAULT_BRANCH
    message: str = ""
    author: str = ""
    tag: str | None = None
    """A new tag for the commit."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    allow_empty: bool = False
    """Make a commit also if the tree is the branch's present one."""
    merge: bool = False
    """If the branch has moved on since the folder was last committed, keep both changes."""
    base: bytes | None = None
    """For a merge: the commit that the folder was made from, where this machine does not know."""
    time_us: int | None = None
    """When it was made, where that was not now: of what comes from elsewhere."""


@dataclass(frozen=True, slots=True)
class Landed:
    """What came of it."""

    commit: bytes
    """What the branch names now."""
    is_new: bool
    """False if the branch had that tree already: then no commit was made."""
    parent: bytes | None
    """What the branch named before."""
    tree: bytes
    totals: Totals
    subsets: tuple[CreatedSubset, ...] = ()
    """Those that follow the branch."""
    snapshot: bytes | None = None
    """Of a merge: the commit that has what the folder had, and nothing else."""

    @property
    def own_commit(self) -> bytes:
        """The commit that has what was published and nothing of others: that of a merge, or what the branch names."""
        return self.snapshot or self.commit


async def check_request(repositories: Repositories, request: Request) -> bytes | None:
    """What the branch names, None if it is new. Refuses what would only fail in the end.

    Raises UsageError for illegal names and words, ConflictError if the tag is taken or the branch is none.
    """
    refs = repositories.refs
    check_repository_name(request.repository)
    check_ref_name(request.branch)
    check_words(request.author, request.message, request.metadata)
    if request.tag is not None:
        check_ref_name(request.tag)
        if request.tag == request.branch:
            raise UsageError(f"{request.tag!r} cannot be both the branch and a tag", hint="choose another name")
        taken = await refs.read(request.repository, request.tag)
        if taken is not None:
            raise ConflictError(
                f"{taken.ref.kind} {request.tag!r} of {request.repository!r} already exists",
                hint="choose another name for the tag",
            )
    stored = await refs.read(request.repository, request.branch)
    if stored is not None and stored.ref.kind is not RefKind.BRANCH:
        raise ConflictError(
            f"{request.branch!r} of {request.repository!r} is a {stored.ref.kind}, not a branch",
            hint="choose another name for the branch",
        )
    return None if stored is None else stored.ref.target


async def write_commit(repositories: Repositories, request: Request, built: Built, parents: Sequence[bytes]) -> bytes:
    """Write the commit object of a tree that is durable. No ref names it yet."""
    header = Commit(
        repository=request.repository,
        tree=built.id,
        totals=built.totals,
        time_us=repositories.clock() if request.time_us is None else request.time_us,
        author=request.author,
        message=request.message,
        parents=tuple(parents),
        metadata=request.metadata,
    )
    return await repositories.writer.write(ObjectKind.COMMIT, encode_commit(header, built.root))


async def land(
    repositories: Repositories, request: Request, commit: bytes, expected: bytes | None, *, hint: str = ""
) -> None:
    """Move the branch from `expected` to a commit. Raises ConflictError, perhaps with a better hint, if it names
    something else by now."""
    summary = request.message.partition("\n")[0]
    try:
        await repositories.refs.move_branch(
            request.repository, request.branch, commit, expected=expected, summary=summary
        )
    except ConflictError as error:
        error.hint = hint or error.hint
        raise


def known_base(request: Request, recorded: bytes | None) -> bytes:
    """What a folder was made from: as the request says, or as was recorded here. Raises UsageError if neither does."""
    base = request.base or recorded
    if base is None:
        raise UsageError(
            "a merge needs to know what the folder was made from, which was not recorded here",
            hint="say it with --base REV; a path that the folder lacks counts as removed since",
        )
    return base


async def follow_up(repositories: Repositories, request: Request, commit: bytes) -> tuple[CreatedSubset, ...]:
    """The tag, and the subsets that follow the branch. The commit stands whatever happens here."""
    try:
        if request.tag is not None:
            await repositories.refs.set_tag(request.repository, request.tag, commit)
        # Also of a commit that is not new: whoever made it may have been killed before this.
        return tuple(await follow_branch_moved(repositories, request.repository, request.branch, commit))
    except FsdError as error:
        error.message = f"commit {short(commit)} is made, but not all that was to follow: {error.message}"
        raise


async def land_edit(
    repositories: Repositories, request: Request, built: Built, parent: bytes, *, moved: bytes | None = None
) -> Landed:
    """Commit a tree that was made by changing the tree of `parent`, which the branch named when that began.

    A branch that has moved on since gets the same change on top, unless both changed the same paths, or somebody else
    something in `moved`, whose contents are elsewhere now: that raises ConflictError.
    """
    base = await repositories.tree(parent)
    for _ in range(repositories.limits.ref_attempts):
        if built.id == base.id and not request.allow_empty:
            subsets = await follow_up(repositories, request, parent)
            return Landed(parent, False, parent, built.id, built.totals, subsets)
        commit = await write_commit(repositories, request, built, (parent,))
        moved_to = await _land_or_see(repositories, request, commit, parent)
        if moved_to is None:
            subsets = await follow_up(repositories, request, commit)
            return Landed(commit, True, parent, built.id, built.totals, subsets)
        theirs = await repositories.tree(moved_to)
        built = await merge_trees(
            repositories,
            base,
            repositories.built_tree(built),
            theirs,
            where=f"{request.repository}/{request.branch}",
            hint="nothing was committed; look at what is there now, and try again",
            moved=moved,
        )
        base, parent = theirs, moved_to
    raise _moves_too_often(request)


async def land_snapshot(repositories: Repositories, request: Request, built: Built, base: bytes, tip: bytes) -> Landed:
    """Commit a snapshot that was made from commit `base` to a branch that has moved on to `tip`.

    The snapshot becomes a commit of its own, with `base` as its parent, and then a merge of it with the tip the
    branch's new tip: the history has what everybody had in their folder. The caller follows it up. Raises ConflictError
    if both changed the same paths since; no ref names the snapshot then.
    """
    ours = repositories.built_tree(built)
    if ours.id == (await repositories.tree(base)).id:
        header = await repositories.commit(tip)
        return Landed(tip, False, tip, header.tree, header.totals, (), base)
    snapshot = await write_commit(repositories, request, built, (base,))
    for _ in range(repositories.limits.ref_attempts):
        origin = await _origin(repositories, request, snapshot, base, tip)
        merged = await merge_trees(
            repositories,
            await repositories.tree(origin),
            ours,
            await repositories.tree(tip),
            where=f"{request.repository}/{request.branch}",
            hint=f"nothing was committed: take over what {short(tip)} has there and try again, or commit with --branch",
        )
        commit = await write_commit(repositories, request, merged, (tip, snapshot))
        moved_to = await _land_or_see(repositories, request, commit, tip)
        if moved_to is None:
            return Landed(commit, True, tip, merged.id, merged.totals, (), snapshot)
        tip = moved_to
    raise _moves_too_often(request)


async def _origin(repositories: Repositories, request: Request, snapshot: bytes, base: bytes, tip: bytes) -> bytes:
    """The commit since which the branch and the folder have parted.

    That is `base`, if the branch was ever there: also where it was moved *back* since, which is a change as any other.
    Else it is where their histories part. Raises UsageError if they have nothing in common.
    """
    stored = await repositories.refs.read(request.repository, request.branch)
    moves = stored.ref.moves if stored is not None else ()
    if any(move.commit == base for move in moves):
        return base
    for move in reversed(moves):
        if base in (await repositories.commit(move.commit)).parents:
            return base
    origin = await common_ancestor(repositories, snapshot, tip)
    if origin is None:
        raise UsageError(
            f"{short(base)}, which the folder was made from, and {request.repository}/{request.branch} "
            "have no commit in common",
            hint="say with --base what the folder was made from",
        )
    return origin


async def _land_or_see(repositories: Repositories, request: Request, commit: bytes, expected: bytes) -> bytes | None:
    """Move the branch to the commit; or, if somebody else moved it, see where it is."""
    try:
        await land(repositories, request, commit, expected)
    except ConflictError:
        stored = await repositories.refs.read(request.repository, request.branch)
        if stored is None or stored.ref.kind is not RefKind.BRANCH or stored.ref.target == expected:
            raise
        return stored.ref.target
    return None


def _moves_too_often(request: Request) -> ConflictError:
    return ConflictError(f"others keep moving {request.branch!r} of {request.repository!r}", hint="try again")
