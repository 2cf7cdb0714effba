"""Removing and moving paths: against dictionaries, and what it costs."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from fsd.errors import ConflictError, FsdError, NotFoundError, UsageError
from fsd.format.model import Entry, Kind
from fsd.limits import DEFAULT_LIMITS
from fsd.publish.amend import move_path, remove_paths
from fsd.publish.landing import Landed, Request
from fsd.repo.refs import Refs
from fsd.repo.repository import Repositories, init_store, open_repositories
from fsd.stores.base import Store
from fsd.stores.memory import MemoryStore
from tests.faulty import FaultyStore
from tests.repo.trees import all_entries, commit_tree, directory, file, in_order, model, models, paths, split, symlink

REQUEST = Request("repo", author="someone", message="small")

TREE = model(
    [file(b"a/b/one", b"1"), file(b"a/b/two", b"2"), file(b"a/c", b"3"), symlink(b"l", b"a"), directory(b"void")]
)


async def repository(tree: dict[bytes, Entry], store: Store | None = None) -> Repositories:
    """A store with the tree on main."""
    store = MemoryStore() if store is None else store
    await init_store(store)
    repositories = await open_repositories(store)
    commit = await commit_tree(store, "repo", in_order(tree))
    await repositories.refs.move_branch("repo", "main", commit, expected=None)
    return repositories


async def content(repositories: Repositories, commit: bytes) -> list[Entry]:
    return await all_entries(await repositories.tree(commit))


def without(tree: dict[bytes, Entry], path: bytes) -> dict[bytes, Entry]:
    return {other: entry for other, entry in tree.items() if other != path and not other.startswith(path + b"/")}


def moved(tree: dict[bytes, Entry], source: bytes, target: bytes) -> dict[bytes, Entry] | None:
    """What moving should give; None where it should be refused."""
    above = [target[:at] for at, byte in enumerate(target) if byte == ord("/")]
    if (
        source not in tree
        or target in tree
        or target.startswith(source + b"/")
        or any(path in tree and tree[path].kind is not Kind.DIRECTORY for path in above)
    ):
        return None
    there = without(tree, source)
    for path, entry in tree.items():
        if path == source or path.startswith(source + b"/"):
            at = split(target + path[len(source) :])
            there[b"/".join(filter(None, at))] = entry._replace(directory=at[0], name=at[1])
    return model([*there.values(), *(directory(path) for path in above)])


@settings(max_examples=60)
@given(models, st.data())
async def test_removing_and_moving(tree: dict[bytes, Entry], data: st.DataObject) -> None:
    repositories = await repository(tree)
    for _ in range(3):
        some_path = st.sampled_from(sorted(tree)) if tree else paths
        source = data.draw(st.one_of(some_path, paths))
        if data.draw(st.booleans()):
            gone = [source, data.draw(some_path)]
            expected = without(without(tree, gone[0]), gone[1]) if set(gone) <= set(tree) else None
            work = remove_paths(repositories, REQUEST, gone)
        else:
            target = data.draw(st.one_of(some_path, paths))
            expected = moved(tree, source, target)
            work = move_path(repositories, REQUEST, source, target)
        before = await repositories.refs.read("repo", "main")
        assert before is not None
        try:
            landed: Landed | None = await work
        except FsdError:
            landed = None
        after = await repositories.refs.read("repo", "main")
        assert after is not None
        if expected is None:
            assert landed is None
            assert after == before
            continue
        assert landed is not None
        tree = expected
        assert landed.commit == after.ref.target
        assert (await repositories.commit(landed.commit)).parents == (before.ref.target,)
        assert await content(repositories, landed.commit) == in_order(tree)


async def test_a_large_folder_goes_and_moves_by_its_pages() -> None:
    memory = MemoryStore()
    large = model([file(b"big/%07d" % number, b"%d" % number) for number in range(20_000)] + [file(b"z", b"z")])
    await repository(large, memory)
    store = FaultyStore(memory)
    repositories = await open_repositories(store)
    removed = await remove_paths(repositories, REQUEST, [b"big"])
    pages = [call for call in store.calls if call.key.startswith("pages/")]
    assert len(pages) <= 5, "what is removed is not read"
    assert await content(repositories, removed.commit) == [file(b"z", b"z")]

    assert removed.parent is not None
    await repositories.refs.move_branch("repo", "main", removed.parent, expected=removed.commit)
    store.calls.clear()
    landed = await move_path(repositories, REQUEST, b"big", b"still/bigger")
    keys = {call.key.partition("/")[0] for call in store.calls}
    assert "packs" not in keys
    there = await repositories.tree(landed.commit)
    assert there.totals == (20_003, 20_001, sum(entry.size for entry in large.values()))
    found = await there.find(b"still/bigger", b"0012345")
    assert found is not None
    assert found.page.entry(found.position)._replace(directory=b"big") == large[b"big/0012345"]


@pytest.mark.parametrize(
    ("gone", "error", "words"),
    [
        ([b""], UsageError, "the top"),
        ([b"a", b"nothing"], NotFoundError, "no nothing in repo/main"),
        ([b"a/bb"], NotFoundError, "did you mean 'b'"),
        ([b"a/c/d"], NotFoundError, "a/c in repo/main is a file"),
        ([b"l/b"], NotFoundError, "l in repo/main is a symlink; it points to a"),
        ([b"x" * 256], UsageError, "too long"),
    ],
)
async def test_what_cannot_be_removed(gone: list[bytes], error: type[FsdError], words: str) -> None:
    repositories = await repository(TREE)
    with pytest.raises(error) as caught:
        await remove_paths(repositories, REQUEST, gone)
    assert words in str(caught.value)
    stored = await repositories.refs.read("repo", "main")
    assert stored is not None
    assert await content(repositories, stored.ref.target) == in_order(TREE)


@pytest.mark.parametrize(
    ("source", "target", "error", "words"),
    [
        (b"a", b"a/d", UsageError, "into itself"),
        (b"a", b"a", ConflictError, "there is a in repo/main already; choose another path, or remove it first"),
        (b"a/c", b"void", ConflictError, "already"),
        (b"a/c", b"l/x", ConflictError, "l in repo/main is a symlink: nothing can be put below it"),
        (b"void", b"a/c/x/y", ConflictError, "a/c in repo/main is a file"),
        (b"nope", b"x", NotFoundError, "no nope"),
        (b"a", b"x" * 256, UsageError, "too long"),
    ],
)
async def test_what_cannot_be_moved(source: bytes, target: bytes, error: type[FsdError], words: str) -> None:
    with pytest.raises(error) as caught:
        await move_path(await repository(TREE), REQUEST, source, target)
    assert words in str(caught.value)


async def test_a_path_that_would_be_too_deep() -> None:
    deep = b"/".join([b"d" * 200] * 120)
    repositories = await repository(model([file(b"a/" + deep, b"1")]))
    with pytest.raises(UsageError, match="would be deeper"):
        await move_path(repositories, REQUEST, b"a", b"/".join([b"e" * 200] * 60))


async def test_only_a_branch_that_is_there_is_changed() -> None:
    repositories = await repository(TREE)
    with pytest.raises(NotFoundError, match="did you mean 'main'"):
        await remove_paths(repositories, Request("repo", "man"), [b"a"])
    with pytest.raises(NotFoundError, match="did you mean 'repo'"):
        await move_path(repositories, Request("rep"), b"a", b"b")


async def test_removing_and_moving_nothing_but_a_name() -> None:
    repositories = await repository(TREE)
    landed = await move_path(repositories, REQUEST, b"a/b", b"b")
    back = await move_path(repositories, Request("repo", tag="v1"), b"b", b"a/b")
    assert back.is_new
    assert back.tree == (await repositories.tree(landed.parent or b"")).id
    stored = await repositories.refs.read("repo", "v1")
    assert stored is not None
    assert stored.ref.target == back.commit


class Meanwhile:
    """Somebody else's commits, each made just before a branch is moved."""

    def __init__(self, repositories: Repositories, monkeypatch: pytest.MonkeyPatch, *gone: bytes) -> None:
        self.gone = list(gone)
        move_branch = Refs.move_branch

        async def late(refs: Refs, *arguments: Any, **options: Any) -> None:
            if refs is not repositories.refs and self.gone:
                await remove_paths(repositories, Request("repo", message="theirs"), [self.gone.pop(0)])
            await move_branch(refs, *arguments, **options)

        monkeypatch.setattr(Refs, "move_branch", late)


async def test_a_branch_that_moves_meanwhile_gets_the_change_on_top(monkeypatch: pytest.MonkeyPatch) -> None:
    repositories = await repository(TREE)
    meanwhile = Meanwhile(await open_repositories(repositories.store), monkeypatch, b"l", b"void")
    landed = await move_path(repositories, REQUEST, b"a/b", b"b")
    assert meanwhile.gone == []
    expected = moved(without(without(TREE, b"l"), b"void"), b"a/b", b"b")
    assert expected is not None
    assert await content(repositories, landed.commit) == in_order(expected)
    history = []
    commit = landed.commit
    while parents := (await repositories.commit(commit)).parents:
        history.append((await repositories.commit(commit)).message)
        (commit,) = parents
    assert history == ["small", "theirs", "theirs"], "a line, in which each has its place"


async def test_the_same_path_changed_meanwhile_is_a_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    repositories = await repository(TREE)
    Meanwhile(await open_repositories(repositories.store), monkeypatch, b"a/b/two")
    with pytest.raises(ConflictError, match=r"repo/main was changed .* the same paths: a/b/two; nothing was committed"):
        await move_path(repositories, REQUEST, b"a/b", b"d")
    stored = await repositories.refs.read("repo", "main")
    assert stored is not None
    assert await content(repositories, stored.ref.target) == in_order(without(TREE, b"a/b/two"))


async def test_what_somebody_else_removed_as_well_is_no_change(monkeypatch: pytest.MonkeyPatch) -> None:
    repositories = await repository(TREE)
    Meanwhile(await open_repositories(repositories.store), monkeypatch, b"a")
    landed = await remove_paths(repositories, REQUEST, [b"a"])
    assert not landed.is_new
    assert (await repositories.commit(landed.commit)).message == "theirs"


async def test_a_branch_that_never_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = model([file(b"%d" % number, b"%d" % number) for number in range(20)])
    repositories = await repository(tree)
    meanwhile = Meanwhile(await open_repositories(repositories.store), monkeypatch, *sorted(tree)[1:])
    with pytest.raises(ConflictError, match="others keep moving 'main'"):
        await remove_paths(repositories, REQUEST, [b"0"])
    assert len(meanwhile.gone) == 19 - DEFAULT_LIMITS.ref_attempts
