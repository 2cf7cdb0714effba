"""Subsets: what is in them, that nothing is copied, and that they follow."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from fsd.errors import ConflictError, NotFoundError, UsageError
from fsd.format.model import Entry, Kind
from fsd.repo.filtered import FilteredTree
from fsd.repo.repository import Repositories, init_store, open_repositories
from fsd.repo.revisions import resolve
from fsd.repo.rules import Matcher, Rule, stem_hash
from fsd.repo.subsets import create_subset, follow_branch_moved, open_tree
from fsd.repo.tree import PENDING, Tree
from fsd.stores.memory import MemoryStore
from tests.faulty import FaultyStore
from tests.repo.trees import (
    TINY_CUTS,
    all_entries,
    build,
    commit_tree,
    directory,
    file,
    in_order,
    large_models,
    listed_entries,
    model,
    symlink,
    tree_of,
)

KEEP = ("README*",)


async def opened() -> tuple[Repositories, FaultyStore]:
    store = FaultyStore(MemoryStore())
    await init_store(store, keep=KEEP)
    return await open_repositories(store), store


def dataset(images: int = 200) -> list[Entry]:
    entries = [file(b"README.md", b"about"), directory(b"empty"), symlink(b"latest", b"train"), file(b"train/README")]
    for number in range(images):
        where = b"train/%d" % (number % 5)
        entries += [file(b"%s/%04d.jpg" % (where, number), b"image"), file(b"%s/%04d.json" % (where, number), b"{}")]
    return entries


def paths(entries: Iterable[Entry]) -> set[bytes]:
    return {entry.path for entry in entries}


async def paths_at(repositories: Repositories, text: str) -> set[bytes]:
    tree = await open_tree(repositories, await resolve(repositories, "data", text))
    return paths(await all_entries(tree))


async def committed(repositories: Repositories, entries: Iterable[Entry] = ()) -> bytes:
    commit = await commit_tree(repositories.store, "data", entries or dataset())
    await repositories.refs.set_tag("data", "v1", commit, force=True)
    return commit


async def test_a_named_subset_is_a_tree_of_its_own() -> None:
    repositories, store = await opened()
    commit = await committed(repositories)
    rule = Rule(Decimal(10), keep=KEEP)
    store.calls.clear()
    created = await create_subset(repositories, "data", commit, "tiny", rule)
    assert not [call for call in store.calls if call.key.startswith("packs/")], "no file contents are read or copied"
    full = model(dataset())
    found = await all_entries(await open_tree(repositories, await resolve(repositories, "data", "v1+tiny")))
    assert all(full[entry.path] == entry for entry in found)
    assert {path for path, entry in full.items() if entry.kind is Kind.DIRECTORY} <= paths(found)
    assert {b"README.md", b"train/README"} <= paths(found)
    images = {path for path in paths(found) if path.endswith(b".jpg")}
    assert 5 <= len(images) <= 40
    assert {path.replace(b".jpg", b".json") for path in images} <= paths(found)
    header = await repositories.commit(created.id)
    assert (header.source, header.repository, header.totals) == (commit, "data", created.totals)
    assert header.rule == rule.to_json()


async def test_a_built_in_subset_is_what_a_named_one_of_its_rule_would_be() -> None:
    repositories, store = await opened()
    commit = await committed(repositories)
    await create_subset(repositories, "data", commit, "ten", Rule(Decimal(10), keep=KEEP))
    store.calls.clear()
    builtin = await paths_at(repositories, "v1+10pct")
    assert not [call for call in store.calls if call.operation not in ("get", "list")]
    assert builtin == await paths_at(repositories, "v1+ten")
    assert await paths_at(repositories, "v1+1pct") <= builtin <= await paths_at(repositories, "v1+50pct")


async def test_the_same_rule_on_the_same_commit_is_the_same_object_everywhere() -> None:
    ids = set()
    for name in ("tiny", "other"):
        repositories, _ = await opened()
        commit = await committed(repositories)
        created = await create_subset(
            repositories, "data", commit, name, Rule(Decimal(10), include=("*.jpg", "*.json"))
        )
        ids.add(created.id)
        again = await create_subset(
            repositories, "data", commit, name, Rule(Decimal("10.0"), include=("*.json", "*.jpg"))
        )
        ids.add(again.id)
    assert len(ids) == 1


async def test_limits() -> None:
    repositories, _ = await opened()
    commit = await committed(repositories)
    hashes = sorted(stem_hash(0, b"train/%d" % (n % 5), b"%04d.jpg" % n) for n in range(200))
    for name, limit in (("eight", 8), ("nine", 9), ("all", 10_000)):
        await create_subset(repositories, "data", commit, name, Rule(limit=limit, include=("train/*/*",), keep=KEEP))
    eight, nine = await paths_at(repositories, "v1+eight"), await paths_at(repositories, "v1+nine")
    pairs = {path for path in eight if path.endswith((b".jpg", b".json"))}
    assert len(pairs) == 8
    assert {stem_hash(0, *path.rsplit(b"/", 1)) for path in pairs} == set(hashes[:4])
    assert eight < nine
    assert len(nine - eight) == 2, "the ninth file has a companion, which comes along"
    assert {b"README.md", b"train/README"} <= eight, "what is kept is not counted"
    assert len(await paths_at(repositories, "v1+all")) == len(model(dataset())) - 1, "all but the symlink"


async def test_so_many_of_each_directory() -> None:
    repositories, _ = await opened()
    commit = await committed(repositories)
    await create_subset(repositories, "data", commit, "per", Rule(per_dir=4, include=("*.jpg", "*.json")))
    per = await paths_at(repositories, "v1+per")
    for number in range(5):
        assert len([path for path in per if path.startswith(b"train/%d/" % number)]) == 4
    await create_subset(repositories, "data", commit, "both", Rule(per_dir=4, limit=6, include=("*.jpg", "*.json")))
    both = await paths_at(repositories, "v1+both")
    assert both < per
    assert len([path for path in both if path.endswith(b".jpg")]) == 3


@settings(max_examples=25)
@given(
    large_models(),
    st.none() | st.integers(1, 50),
    st.none() | st.integers(1, 5),
    st.sampled_from([None, Decimal(50)]),
    st.sampled_from([(), ("a*",)]),
)
async def test_limits_against_sorting(
    full: dict[bytes, Entry], limit: int | None, per_dir: int | None, percent: Decimal | None, keep: tuple[str, ...]
) -> None:
    store = MemoryStore()
    await init_store(store)
    repositories = await open_repositories(store)
    commit = await commit_tree(store, "data", full.values(), cuts=TINY_CUTS)
    rule = Rule(percent, limit=limit, per_dir=per_dir, keep=keep)
    matcher = Matcher(Rule(percent))
    files = [entry for entry in full.values() if entry.kind is not Kind.DIRECTORY]
    kept = [entry for entry in files if keep and entry.name.startswith(b"a")]
    left = [entry for entry in files if entry not in kept and matcher.selects(entry.directory, entry.name)]
    if per_dir is not None:
        by_directory = {entry.directory: [e for e in left if e.directory == entry.directory] for entry in left}
        left = [entry for some in by_directory.values() for entry in least(some, per_dir)]
    if limit is not None:
        left = least(left, limit)
    matched = left + [entry for entry in kept if matcher.selects(entry.directory, entry.name)]
    if not matched:
        with pytest.raises(UsageError, match="selects no file"):
            await create_subset(repositories, "data", commit, "some", rule)
        return
    created = await create_subset(repositories, "data", commit, "some", rule)
    found = await all_entries(await repositories.tree(created.id))
    assert {entry.path for entry in found if entry.kind is not Kind.DIRECTORY} == paths(left) | paths(kept)
    assert [entry for entry in found if entry.kind is Kind.DIRECTORY] == [
        entry for entry in in_order(full) if entry.kind is Kind.DIRECTORY
    ]


def least(entries: list[Entry], number: int) -> list[Entry]:
    ordered = sorted(stem_hash(0, entry.directory, entry.name) for entry in entries)
    return [entry for entry in entries if stem_hash(0, entry.directory, entry.name) <= ordered[:number][-1]]


@settings(max_examples=25)
@given(large_models(), st.integers(0, 300))
async def test_a_filtered_tree_against_a_dictionary(full: dict[bytes, Entry], start: int) -> None:
    store = MemoryStore()
    tree = tree_of(store, await build(store, in_order(full), cuts=TINY_CUTS))
    rule = Rule(Decimal(30), keep=("*b",))
    matcher = Matcher(rule)
    filtered = FilteredTree(tree, rule)
    chosen = [
        entry
        for entry in in_order(full)
        if entry.kind is Kind.DIRECTORY or matcher.selects(entry.directory, entry.name)
    ]
    assert await all_entries(filtered) == chosen
    numbers = {entry.path: number for number, entry in enumerate(in_order(full))}
    assert await all_entries(filtered, start=start) == [entry for entry in chosen if numbers[entry.path] >= start]
    for entry in in_order(full)[:50]:
        assert filtered.find_nowait(entry.directory, entry.name) in (
            PENDING,
            await filtered.find(entry.directory, entry.name),
        )
        found = await filtered.find(entry.directory, entry.name)
        assert (found is not None) == (entry in chosen)
        if found is not None:
            assert (await filtered.locate(found.ordinal)).page.entry(found.position) == entry
        if entry.kind is Kind.DIRECTORY:
            assert await listed_entries(filtered, entry.path) == [e for e in chosen if e.directory == entry.path]
    assert await filtered.find(b"", b"not there") is None
    assert filtered.totals is None


async def test_filtered_trees_are_told_apart() -> None:
    store = MemoryStore()
    tree = tree_of(store, await build(store, [file(b"a")]))
    other: Tree = tree_of(store, await build(store, [file(b"b")]))
    rules = [Rule(Decimal(30)), Rule(Decimal(30), seed=1)]
    assert len({FilteredTree(of, rule).id for of in (tree, other) for rule in rules} | {tree.id}) == 5
    assert FilteredTree(tree, rules[0]).id == FilteredTree(tree, Rule(Decimal("30.0"))).id
    with pytest.raises(ValueError, match="must know all files"):
        FilteredTree(tree, Rule(limit=1))


async def test_listed_paths() -> None:
    repositories, _ = await opened()
    commit = await committed(repositories)
    wanted = (b"train/0/0000.jpg", b"train/1", b"latest")
    await create_subset(repositories, "data", commit, "listed", Rule(paths=wanted))
    full = model(dataset())
    files = {path for path in await paths_at(repositories, "v1+listed") if full[path].kind is not Kind.DIRECTORY}
    assert files == {b"train/0/0000.jpg", b"latest"} | {path for path in full if path.startswith(b"train/1/")}
    with pytest.raises(NotFoundError, match=r"not in this version: 'a', 'b', 'c' and 1 more"):
        await create_subset(repositories, "data", commit, "bad", Rule(paths=(b"a", b"b", b"c", b"d", b"latest")))


async def test_a_rule_that_selects_nothing_is_refused() -> None:
    repositories, store = await opened()
    commit = await committed(repositories)
    store.calls.clear()
    with pytest.raises(UsageError, match="selects no file"):
        await create_subset(repositories, "data", commit, "none", Rule(include=("*.png",), keep=KEEP))
    assert await repositories.refs.read("data", "none") is None


async def test_a_name_that_is_taken() -> None:
    repositories, _ = await opened()
    commit = await committed(repositories)
    await create_subset(repositories, "data", commit, "tiny", Rule(limit=1))
    with pytest.raises(ConflictError, match="already is something else"):
        await create_subset(repositories, "data", commit, "tiny", Rule(limit=2))
    created = await create_subset(repositories, "data", commit, "tiny", Rule(limit=2), force=True)
    resolved = await resolve(repositories, "data", "v1+tiny")
    assert resolved.subset is not None
    assert resolved.subset.id == created.id
    with pytest.raises(ConflictError, match="is a tag"):
        await create_subset(repositories, "data", commit, "v1", Rule(limit=2))
    with pytest.raises(UsageError, match="built-in"):
        await create_subset(repositories, "data", commit, "5pct", Rule(limit=2))
    with pytest.raises(UsageError, match="not a commit of 'other'"):
        await create_subset(repositories, "other", commit, "tiny", Rule(limit=2))
    with pytest.raises(UsageError, match="not a commit"):
        await create_subset(repositories, "data", created.id, "tinier", Rule(limit=1))


async def test_following_a_branch() -> None:
    repositories, _ = await opened()
    first = await committed(repositories)
    await repositories.refs.move_branch("data", "main", first, expected=None)
    rule = Rule(Decimal(10), keep=KEEP)
    await create_subset(repositories, "data", first, "tiny", rule, follow_branch="main")
    await create_subset(repositories, "data", first, "few", Rule(limit=6), follow_branch="main")
    await create_subset(repositories, "data", first, "still", Rule(limit=6))
    second = await commit_tree(repositories.store, "data", [*dataset(), *[file(b"new/%d" % n) for n in range(100)]])
    await repositories.refs.move_branch("data", "main", second, expected=first)

    before = await paths_at(repositories, "main+tiny")
    assert (await resolve(repositories, "data", "main+tiny")).subset.rule == rule, "nobody took it yet"  # type: ignore[union-attr]
    with pytest.raises(NotFoundError, match="'few' of 'data' was never taken from 'main'"):
        await paths_at(repositories, "main+few")

    created = await follow_branch_moved(repositories, "data", "main", second)
    assert [subset.name for subset in created] == ["few", "tiny"]
    assert await follow_branch_moved(repositories, "data", "main", second) == []
    assert await follow_branch_moved(repositories, "data", "other", second) == []
    assert await paths_at(repositories, "main+tiny") == before
    assert len(await paths_at(repositories, "main+few")) > 6
    assert await paths_at(repositories, "v1+tiny") == before & paths(model(dataset()).values())
    with pytest.raises(NotFoundError, match="never taken"):
        await paths_at(repositories, "main+still")


async def test_what_a_followed_rule_no_longer_selects_is_an_empty_subset() -> None:
    repositories, _ = await opened()
    first = await committed(repositories)
    await repositories.refs.move_branch("data", "main", first, expected=None)
    await create_subset(repositories, "data", first, "images", Rule(include=("*.jpg",)), follow_branch="main")
    second = await commit_tree(repositories.store, "data", [file(b"a/b")])
    await repositories.refs.move_branch("data", "main", second, expected=first)
    (created,) = await follow_branch_moved(repositories, "data", "main", second)
    assert created.totals.files == 0
    assert await paths_at(repositories, "main+images") == {b"a"}


async def test_only_commits_of_the_followed_branch_get_its_rule() -> None:
    repositories, _ = await opened()
    first = await committed(repositories)
    await repositories.refs.move_branch("data", "main", first, expected=None)
    await create_subset(repositories, "data", first, "tiny", Rule(Decimal(10)), follow_branch="main")
    other = await commit_tree(repositories.store, "data", [file(b"a")])
    await repositories.refs.set_tag("data", "v2", other)
    with pytest.raises(NotFoundError, match="never taken from 'v2'"):
        await paths_at(repositories, "v2+tiny")


async def test_what_cannot_be_followed() -> None:
    repositories, _ = await opened()
    commit = await committed(repositories)
    with pytest.raises(NotFoundError, match="no branch 'v1' to follow"):
        await create_subset(repositories, "data", commit, "tiny", Rule(limit=1), follow_branch="v1")
    await repositories.refs.move_branch("data", "main", commit, expected=None)
    many = Rule(paths=tuple(b"train/0/%06d.jpg" % number for number in range(10_000)))
    with pytest.raises(UsageError, match="too long to be followed"):
        await create_subset(repositories, "data", commit, "tiny", many, follow_branch="main")
