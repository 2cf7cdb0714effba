"""What a store says of pins."""

from __future__ import annotations

import pytest

from fsd.errors import StoreUnreachableError
from fsd.format.ref import MAX_MOVES
from fsd.ids import content_id
from fsd.pins.examine import examine, moves_since
from fsd.pins.findings import Findings, Question
from fsd.pins.links import Target
from fsd.repo.repository import Repositories, init_store, open_repositories
from fsd.repo.rules import Rule
from fsd.repo.subsets import create_subset
from fsd.stores.memory import MemoryStore
from tests.faulty import Fail, FaultyStore
from tests.repo.trees import commit_tree, file

UNKNOWN = "ab" * 32


async def published() -> tuple[Repositories, FaultyStore, list[str]]:
    """Four commits, three of them on main. v1 and v1.0 name the first, of which there is the subset tiny."""
    store = FaultyStore(MemoryStore())
    await init_store(store)
    repositories = await open_repositories(store)
    commits = [await commit_tree(store, "data", [file(b"a.txt", b"%d" % n)], time_us=n) for n in range(4)]
    before = None
    for commit in commits[:3]:
        await repositories.refs.move_branch("data", "main", commit, expected=before)
        before = commit
    for tag in ("v1.0", "v1"):
        await repositories.refs.set_tag("data", tag, commits[0])
    await create_subset(repositories, "data", commits[0], "tiny", Rule())
    return await open_repositories(store), store, [commit.hex() for commit in commits]


async def found(repositories: Repositories, *target: str, branch: str = "main", is_here: bool = False) -> Findings:
    return (await examine(repositories, [Question(Target(*target), branch, is_here)]))[0]


async def test_sound_pins() -> None:
    repositories, _, commits = await published()
    first = bytes.fromhex(commits[0])
    assert await found(repositories, "data", commits[0]) == Findings(first, ("v1", "v1.0"), True, 2, "")
    assert await found(repositories, "data", commits[0], "tiny", "a.txt") == Findings(
        first, ("v1", "v1.0"), True, 2, ""
    )
    assert await found(repositories, "data", commits[0], "50pct") == Findings(first, ("v1", "v1.0"), True, 2, "")
    assert await found(repositories, "data", "v1") == Findings(first, ("v1", "v1.0"), True, 2, "")
    assert await found(repositories, "data", commits[2]) == Findings(bytes.fromhex(commits[2]), (), True, 0, "")
    assert (await found(repositories, "data", commits[3])).behind is None
    assert await found(repositories, "data", commits[2], branch="gone") == Findings(
        bytes.fromhex(commits[2]), (), False, None, ""
    )
    assert not (await found(repositories, "data", commits[2], branch="v1")).has_branch


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        (("data", "main"), "main is a branch: it does not pin, and now means"),
        (("data", UNKNOWN), "there is no commit abab"),
        (("other", UNKNOWN), "there is no commit abab"),
        (("other", "main"), "there is no repository 'other'"),
        (("data", "mian"), "there is no revision 'mian' in 'data'; did you mean 'main'?"),
        (("data", ""), "'' is not a revision"),
        (("data", "v1", "tyni"), "there is no subset 'tyni' in 'data'; did you mean 'tiny'?"),
        (("data", "v1", "tiny", "b.txt"), "there is no 'b.txt' in data/v1+tiny"),
    ],
)
async def test_what_is_wrong_with_a_pin(target: tuple[str, ...], problem: str) -> None:
    repositories, _, _ = await published()
    assert (await found(repositories, *target)).problem.startswith(problem)


async def test_an_abbreviated_id_and_a_subset_of_another_commit() -> None:
    repositories, _, commits = await published()
    assert "abbreviated id" in (await found(repositories, "data", commits[0][:12])).problem
    assert "was never taken" in (await found(repositories, "data", commits[1], "tiny")).problem
    assert (await found(repositories, "data", commits[1], "tiny", is_here=True)).problem == ""


async def test_pins_are_answered_in_their_order_and_requests_shared() -> None:
    repositories, store, commits = await published()
    store.calls.clear()
    questions = [Question(Target("data", commit), "main") for commit in commits * 5]
    answers = await examine(repositories, questions)
    assert [answer.commit for answer in answers] == [bytes.fromhex(commit) for commit in commits * 5]
    assert len(store.calls) == 1 + 4 + len(commits)  # the listing, the refs, the commits


async def test_a_store_that_does_not_answer_is_no_finding() -> None:
    repositories, store, commits = await published()
    store.inject("get", f"commits/{commits[0]}", Fail(StoreUnreachableError("gone")))
    with pytest.raises(StoreUnreachableError):
        await found(repositories, "data", commits[0])


async def test_moves_are_counted_however_long_the_history() -> None:
    repositories, _, _ = await published()

    def commit(number: int) -> bytes:
        return content_id(b"%d" % number)

    last = 11 * MAX_MOVES
    before = None
    for number in range(last + 1):
        await repositories.refs.move_branch("data", "long", commit(number), expected=before)
        before = commit(number)
    # Back to an old one: what counts is when it was named last.
    await repositories.refs.move_branch("data", "long", commit(7), expected=before)
    stored = await repositories.refs.read("data", "long")
    assert stored is not None
    ref = stored.ref
    assert len(ref.segments) > 16
    assert [await moves_since(repositories, ref, commit(n)) for n in (7, last, last - 1, 6, 0)] == [
        0,
        1,
        2,
        last - 5,
        last + 1,
    ]
    assert await moves_since(repositories, ref, commit(last + 1)) is None
