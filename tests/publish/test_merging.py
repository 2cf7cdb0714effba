"""`publish` with `merge`: two people, each with a folder, commit to one branch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fsd.errors import ConflictError, UsageError
from fsd.publish.amend import remove_paths
from fsd.publish.landing import Request
from fsd.repo.refs import Refs
from tests.publish.folders import DIRECTORY, Desk, Item, file, verify_store

BASE: dict[bytes, Item] = {
    b"labels.csv": file(b"a,b\n"),
    b"train": DIRECTORY,
    b"train/a.jpg": file(b"a" * 5000),
    b"train/b.jpg": file(b"b" * 5000),
}
MINE = BASE | {b"train/a.jpg": file(b"A" * 5000), b"train/mine.jpg": file(b"m")}
THEIRS = {path: item for path, item in BASE.items() if path != b"train/b.jpg"} | {b"theirs": file(b"t")}
BOTH = {path: item for path, item in (MINE | THEIRS).items() if path != b"train/b.jpg"} | {
    b"train/a.jpg": MINE[b"train/a.jpg"]
}


async def fork(place: Path) -> tuple[Desk, Desk]:
    """Two desks whose folders were both committed as the base; the second one has committed since."""
    mine, theirs = Desk(place), Desk(place, "theirs")
    await mine.commit(BASE)
    assert not (await theirs.commit(BASE)).is_new
    await theirs.commit(THEIRS, message="theirs")
    return mine, theirs


async def test_both_changes_are_kept(tmp_path: Path) -> None:
    mine, theirs = await fork(tmp_path)
    merged = await mine.commit(MINE, message="mine", merge=True, tag="v1")
    assert merged.is_new
    assert await mine.read_back(merged.commit) == BOTH
    assert merged.totals.files == 4
    assert await mine.read_back(merged.snapshot) == MINE
    repositories = await mine.repositories()
    header = await repositories.commit(merged.commit)
    assert header.parents == (merged.parent, merged.snapshot)
    (base,) = (await repositories.commit(merged.snapshot)).parents
    assert await mine.read_back(base) == BASE
    assert (await verify_store(mine.store))["repo/v1"] == BOTH
    # The folder is still without what the other one did, and the notes know that.
    again = await mine.commit(MINE, merge=True)
    assert (again.is_new, again.commit, again.content.files_read) == (False, merged.commit, 0)
    more = await mine.commit(MINE | {b"more": file(b"more")}, merge=True)
    assert more.content.files_read == 1
    assert await mine.read_back(more.commit) == BOTH | {b"more": file(b"more")}
    last = await theirs.commit(THEIRS | {b"last": file(b"last")}, merge=True)
    assert await theirs.read_back(last.commit) == BOTH | {b"more": file(b"more"), b"last": file(b"last")}
    await verify_store(mine.store)


async def test_the_same_path_is_a_conflict(tmp_path: Path) -> None:
    mine, theirs = await fork(tmp_path)
    await theirs.commit(THEIRS | {b"train/a.jpg": file(b"other")})
    before = await (await mine.repositories()).refs.read("repo", "main")
    for _ in range(2):
        with pytest.raises(ConflictError, match=r"at the same paths: train/a.jpg; nothing was committed") as caught:
            await mine.commit(MINE, merge=True)
        assert caught.value.exit_code == 3
        assert await (await mine.repositories()).refs.read("repo", "main") == before
    resolved = await mine.commit(MINE | {b"train/a.jpg": file(b"other")}, merge=True)
    assert await mine.read_back(resolved.commit) == BOTH | {b"train/a.jpg": file(b"other")}


async def test_a_branch_that_has_not_moved_needs_no_merge(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    first = await desk.commit(BASE, merge=True)
    second = await desk.commit(MINE, merge=True)
    assert second.snapshot == second.commit
    assert (await (await desk.repositories()).commit(second.commit)).parents == (first.commit,)
    assert not (await desk.commit(MINE, merge=True)).is_new


async def test_what_a_folder_was_made_from_must_be_known(tmp_path: Path) -> None:
    mine, theirs = await fork(tmp_path)
    repositories = await mine.repositories()
    stored = await repositories.refs.read("repo", "main")
    assert stored is not None
    elsewhere = Desk(tmp_path, "elsewhere")
    with pytest.raises(UsageError, match="--base REV"):
        await elsewhere.commit(MINE, merge=True)
    merged = await elsewhere.commit(MINE, merge=True, base=stored.ref.moves[0].commit)
    assert await elsewhere.read_back(merged.commit) == BOTH
    other = await theirs.commit({b"x": file(b"x")}, repository="other")
    with pytest.raises(UsageError, match="have no commit in common"):
        await elsewhere.commit(THEIRS, merge=True, base=other.commit)


async def test_going_back_is_a_change_too(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    first = await desk.commit(BASE)
    second = await desk.commit(BASE | {b"wrong": file(b"wrong")})
    repositories = await desk.repositories()
    await repositories.refs.move_branch("repo", "main", first.commit, expected=second.commit)
    merged = await desk.commit(MINE | {b"wrong": file(b"wrong")}, merge=True)
    assert await desk.read_back(merged.commit) == MINE, "what was reverted does not come back"


async def test_another_branch_is_merged_from_where_they_parted(tmp_path: Path) -> None:
    mine, _ = await fork(tmp_path)
    repositories = await mine.repositories()
    stored = await repositories.refs.read("repo", "main")
    assert stored is not None
    await repositories.refs.move_branch("repo", "dev", stored.ref.moves[0].commit, expected=None)
    await mine.commit(BASE | {b"train/mine.jpg": file(b"m")}, branch="dev")
    merged = await mine.commit(MINE, merge=True)
    assert await mine.read_back(merged.commit) == BOTH, "with what was committed to dev alone"


async def test_a_branch_that_moves_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, theirs = await fork(tmp_path)
    other = await theirs.repositories()
    move_branch, gone = Refs.move_branch, [b"theirs", b"labels.csv"]

    async def late(refs: Refs, *arguments: Any, **options: Any) -> None:
        if refs is not other.refs and gone:
            await remove_paths(other, Request("repo"), [gone.pop()])
        await move_branch(refs, *arguments, **options)

    monkeypatch.setattr(Refs, "move_branch", late)
    merged = await mine.commit(MINE, merge=True)
    assert gone == []
    assert await mine.read_back(merged.commit) == {
        path: item for path, item in BOTH.items() if path not in (b"theirs", b"labels.csv")
    }
    gone.append(b"train/mine.jpg")
    with pytest.raises(ConflictError, match="--merge keeps both changes"):
        await mine.commit(MINE | {b"again": file(b"again")})
