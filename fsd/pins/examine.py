"""What a store says of pins: the tags of their commits, how far their branch has moved on, what is wrong with them.

Requests: one for each distinct commit, one for each ref of the repositories that are pinned, and one or two more for a
named subset or a path. All pins are asked about together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fsd.errors import NotFoundError, UsageError
from fsd.format.model import Kind
from fsd.format.ref import Ref, RefKind
from fsd.pins.findings import Findings, Question
from fsd.repo.refs import StoredRef, short
from fsd.repo.repository import Repositories
from fsd.repo.revisions import Resolved, RevisionKind, resolve
from fsd.repo.subsets import open_tree
from fsd.tasks import gather

_SEGMENTS_AT_ONCE = 16
"""Parts of a long history read together, newest first, until the pinned commit is found."""


async def examine(repositories: Repositories, questions: Sequence[Question]) -> list[Findings]:
    """The findings for each of `questions`. Raises what a store raises, and CorruptDataError."""
    limits = repositories.limits
    names = sorted({question.target.repository for question in questions})
    listed = await gather(repositories.refs.read_all, names, tasks=limits.fetch_requests)
    refs = dict(zip(names, listed, strict=True))

    async def one(question: Question) -> Findings:
        return await _examine(repositories, refs[question.target.repository], question)

    return await gather(one, questions, tasks=limits.fetch_requests)


async def _examine(repositories: Repositories, refs: Mapping[str, StoredRef], question: Question) -> Findings:
    target = question.target
    try:
        resolved = await resolve(repositories, target.repository, target.base)
    except (NotFoundError, UsageError) as error:
        return Findings(None, (), question.branch in refs, None, str(error))
    tags = tuple(
        name for name, stored in refs.items() if stored.ref.kind is RefKind.TAG and stored.ref.target == resolved.commit
    )
    branch = refs.get(question.branch)
    if branch is not None and branch.ref.kind is not RefKind.BRANCH:
        branch = None
    behind = None if branch is None else await moves_since(repositories, branch.ref, resolved.commit)
    problem = _moving(resolved) or await _missing(repositories, question)
    return Findings(resolved.commit, tags, branch is not None, behind, problem)


def _moving(resolved: Resolved) -> str:
    """Why a pin through this revision is none: what it means may be something else tomorrow."""
    match resolved.kind:
        case RevisionKind.COMMIT | RevisionKind.TAG:
            return ""
        case RevisionKind.PREFIX:
            return f"{resolved.name} is an abbreviated id, which may mean more than one commit some day"
        case kind:
            return f"{resolved.name} is a {kind}: it does not pin, and now means {short(resolved.commit)}"


async def _missing(repositories: Repositories, question: Question) -> str:
    """What is not in the store any more of the subset and the path; '' if nothing."""
    target = question.target
    if not (target.subset or target.path) or question.is_here:
        return ""
    try:
        tree = await open_tree(repositories, await resolve(repositories, target.repository, target.revision))
    except (NotFoundError, UsageError) as error:
        return str(error)
    directory = b""
    for name in filter(None, target.path.encode("utf-8", "surrogateescape").split(b"/")):
        found = await tree.find(directory, name)
        if found is None:
            return f"there is no {target.path!r} in {target.repository}/{target.revision}"
        if found.page.kind(found.position) != Kind.DIRECTORY:
            # The last part, or a symlink: where that leads shows on this machine.
            return ""
        directory = found.page.path(found.position)
    return ""


async def moves_since(repositories: Repositories, ref: Ref, commit: bytes) -> int | None:
    """How often a branch was moved since it named `commit` last; None if it never did.

    A commit among the last moves costs nothing, an older one reads the history back to it, several parts at once.
    """
    count = 0
    for move in reversed(ref.moves):
        if move.commit == commit:
            return count
        count += 1
    segments = list(ref.segments)
    while segments:
        newest = segments[-_SEGMENTS_AT_ONCE:]
        del segments[-_SEGMENTS_AT_ONCE:]
        read = await gather(
            repositories.objects.segment, [info.id for info in newest], tasks=repositories.limits.fetch_requests
        )
        for moves in reversed(read):
            for move in reversed(moves):
                if move.commit == commit:
                    return count
                count += 1
    return None
