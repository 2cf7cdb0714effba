"""From what is written to a commit, and errors that help."""

from __future__ import annotations

import itertools
import struct

import pytest

from fsd.errors import CorruptDataError, NotFoundError, UsageError
from fsd.format.commit import Commit, encode_commit, tree_id
from fsd.format.index import Totals, encode_index
from fsd.format.keys import ObjectKind, object_key
from fsd.ids import content_id
from fsd.repo.repository import Repositories, init_store, open_repositories
from fsd.repo.revisions import RevisionKind, parse_revision, resolve
from fsd.repo.rules import Rule
from fsd.repo.subsets import create_subset
from fsd.stores.base import Store
from fsd.stores.memory import MemoryStore
from tests.faulty import FaultyStore
from tests.repo.trees import commit_tree, file


async def opened(store: Store) -> Repositories:
    await init_store(store)
    return await open_repositories(store)


async def with_refs() -> tuple[Repositories, FaultyStore, bytes, bytes]:
    store = FaultyStore(MemoryStore())
    repositories = await opened(store)
    first = await commit_tree(store, "imagenet", [file(b"a.txt", b"1")], time_us=1)
    second = await commit_tree(store, "imagenet", [file(b"a.txt", b"2")], time_us=2)
    await repositories.refs.set_tag("imagenet", "v1.2", first)
    await repositories.refs.move_branch("imagenet", "main", second, expected=None)
    await create_subset(repositories, "imagenet", first, "tiny", Rule())
    again = await open_repositories(store)
    store.calls.clear()
    return again, store, first, second


@pytest.mark.parametrize(
    ("text", "base", "subset"),
    [
        ("main", "main", None),
        ("v1.2+tiny", "v1.2", "tiny"),
        ("abcdef0+10pct", "abcdef0", "10pct"),
        ("a@b", "a@b", None),
    ],
)
def test_grammar(text: str, base: str, subset: str | None) -> None:
    assert parse_revision(text) == (base, subset)


@pytest.mark.parametrize("text", ["", "+", "main+", "+tiny", "main+a+b", "main++a"])
def test_what_is_no_revision(text: str) -> None:
    with pytest.raises(UsageError, match="is not a revision"):
        parse_revision(text)


async def test_branches_and_tags_are_one_request() -> None:
    repositories, store, first, second = await with_refs()
    resolved = await resolve(repositories, "imagenet", "main")
    assert (resolved.commit, resolved.kind, resolved.name) == (second, RevisionKind.BRANCH, "main")
    resolved = await resolve(repositories, "imagenet", "v1.2")
    assert (resolved.commit, resolved.kind, resolved.subset) == (first, RevisionKind.TAG, None)
    assert [call.operation for call in store.calls] == ["get", "get"]


async def test_ids_and_prefixes() -> None:
    repositories, store, first, second = await with_refs()
    resolved = await resolve(repositories, "imagenet", second.hex())
    assert (resolved.commit, resolved.kind) == (second, RevisionKind.COMMIT)
    assert [call.operation for call in store.calls] == ["get"], "a full id needs no listing"
    for digits in (7, 12, 63):
        resolved = await resolve(repositories, "imagenet", first.hex()[:digits])
        assert (resolved.commit, resolved.kind) == (first, RevisionKind.PREFIX)


async def test_an_id_of_another_repository() -> None:
    repositories, store, first, _ = await with_refs()
    other = await commit_tree(store, "coco", [file(b"a.txt", b"1")])
    await repositories.refs.set_tag("coco", "v1", other)
    with pytest.raises(NotFoundError, match="is not one of 'imagenet'") as caught:
        await resolve(repositories, "imagenet", other.hex())
    assert "'coco'" in caught.value.hint
    with pytest.raises(NotFoundError, match="no revision"):
        await resolve(repositories, "imagenet", other.hex()[:8])
    with pytest.raises(NotFoundError, match="no revision"):
        await resolve(repositories, "coco", first.hex()[:8])


def alike(count: int) -> list[int]:
    """Times of commits of an empty tree in 'imagenet' whose ids share their first 7 digits: a birthday or two."""
    root = encode_index(0, [])
    at_zero = Commit("imagenet", tree_id(root), Totals(0, 0, 0), time_us=0)
    head, tail = encode_commit(at_zero, root).split(b'"time_us":0')
    by_prefix: dict[str, list[int]] = {}
    for time_us in itertools.count(10_000_000):
        # As long as the number's length stays the same, so does that of the header.
        logical = head + b'"time_us":%d' % time_us + tail
        logical = logical[:8] + struct.pack("<I", struct.unpack_from("<I", logical, 8)[0] + 7) + logical[12:]
        times = by_prefix.setdefault(content_id(logical).hex()[:7], [])
        times.append(time_us)
        if len(times) == count:
            return times
    raise AssertionError


async def test_an_ambiguous_prefix_lists_the_candidates() -> None:
    store = MemoryStore()
    repositories = await opened(store)
    commits = [await commit_tree(store, "imagenet", [], time_us=time_us) for time_us in alike(2)]
    await commit_tree(store, "coco", [])
    prefix = commits[0].hex()[:7]
    assert commits[1].hex().startswith(prefix)
    with pytest.raises(UsageError, match=f"'{prefix}' could be any of 2 commits of 'imagenet'") as caught:
        await resolve(repositories, "imagenet", prefix)
    assert all(commit.hex()[:15] in caught.value.hint for commit in commits)
    for commit in commits:
        assert (await resolve(repositories, "imagenet", commit.hex()[:15])).commit == commit


async def test_unknown_names_come_with_near_misses() -> None:
    repositories, _, first, _ = await with_refs()
    for repository, text, message, hint in [
        ("imagenett", "main", "no repository 'imagenett'", "'imagenet'"),
        ("no/repository", "main", "no repository", ""),
        ("imagenet", "mian", "no revision 'mian'", "'main'"),
        ("imagenet", "v1.3", "no revision 'v1.3'", "'v1.2'"),
        ("imagenet", "main@2001-11-17", "has only been there since", "--moves"),
        ("imagenet", ".git", "no revision", ""),
        ("imagenet", "0123456", "no revision", ""),
        ("imagenet", "f" * 64, "no commit", ""),
        ("imagenet", "tiny", "is a subset, not a revision", "main+tiny"),
        ("imagenet", "v1.2+tinny", "no subset 'tinny'", "'tiny'"),
        ("imagenet", "v1.2+zzz", "no subset 'zzz'", "10pct"),
        ("imagenet", "v1.2+main", "no subset 'main'", ""),
        (
            "imagenet",
            "main+tiny",
            "'tiny' of 'imagenet' was never taken from 'main'",
            "fsd subset create imagenet/main",
        ),
    ]:
        with pytest.raises(NotFoundError, match=message) as caught:
            await resolve(repositories, repository, text)
        assert hint in caught.value.hint, text
    with pytest.raises(UsageError, match="not a sample"):
        await resolve(repositories, "imagenet", "main+100pct")
    assert (await resolve(repositories, "imagenet", "v1.2+tiny")).commit == first


async def test_subsets() -> None:
    repositories, store, first, _ = await with_refs()
    named = await resolve(repositories, "imagenet", "v1.2+tiny")
    assert named.subset is not None
    assert (named.commit, named.subset.rule) == (first, None)
    assert named.subset.id is not None
    assert len(store.calls) == 2
    builtin = await resolve(repositories, "imagenet", "v1.2+10pct")
    assert builtin.subset is not None
    assert builtin.subset.id is None
    assert builtin.subset.rule is not None
    assert builtin.subset.rule.keep == tuple(sorted(repositories.marker.keep))
    by_id = await resolve(repositories, "imagenet", named.subset.id.hex())
    assert by_id.commit == named.subset.id, "a subset can be named by its own id"


async def test_a_bad_commit_is_not_a_missing_one() -> None:
    repositories, store, first, _ = await with_refs()
    await store.inner.overwrite(object_key(ObjectKind.COMMIT, first), b"garbage")
    with pytest.raises(CorruptDataError):
        await resolve(repositories, "imagenet", first.hex())
