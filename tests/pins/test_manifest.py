"""`.fsd.toml`: what is right in it, what is said about what is not, and that changing it leaves the rest alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsd.errors import FsdError, NotFoundError, UsageError
from fsd.pins.manifest import FILE_NAME, MAX_BYTES, Manifest, create, find, load, set_followed

STORE = 'store = "gs://bucket/data"\n'


def written(folder: Path, text: str) -> Path:
    (folder / FILE_NAME).write_text(text)
    return folder


def test_everything_in_it(tmp_path: Path) -> None:
    text = STORE + 'mountpoint = "/data//fsd/"\n[follow]\n"models/base" = "dev"\n'
    assert find(written(tmp_path, text)) == Manifest("gs://bucket/data", "/data/fsd", {"models/base": "dev"})


def test_a_work_tree_without_one(tmp_path: Path) -> None:
    assert find(tmp_path) is None
    with pytest.raises(NotFoundError, match=r"there is no \.fsd\.toml"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no store"),
        ("store = ", "is not TOML"),
        (STORE + 'mountpiont = "/fsd"', "unknown key 'mountpiont'; did you mean 'mountpoint'?"),
        (STORE + "x = 1", "unknown key 'x'; known are: store, mountpoint, follow"),
        ("store = 7", "store must be a URL"),
        ('store = "../data"', "a path that starts with /, not '../data'"),
        ('store = "~/data"', "a path that starts with /"),
        ('store = "http://[1/x"', "store is no URL"),
        (STORE + 'mountpoint = "fsd"', "mountpoint must be a path that starts with /"),
        (STORE + 'mountpoint = "/"', "mountpoint must be a path"),
        (STORE + "follow = 1", "follow must be a table"),
        (STORE + "[follow]\ndata = 1", "'data' in .follow. must be a branch's name, not 1"),
        (STORE + '[follow]\ndata = "a b"', "must be a branch's name, not 'a b'"),
        ("#" * (MAX_BYTES + 1), "is longer than"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        find(written(tmp_path, text))
    assert FILE_NAME in str(caught.value)


@pytest.mark.parametrize(
    "store", ["https://me:s3cret@host/data", "https://token@host/data", "https://host/data?sig=s3cret", "gs://b/x#y"]
)
def test_a_url_with_credentials_is_refused_and_not_repeated(tmp_path: Path, store: str) -> None:
    with pytest.raises(UsageError, match="everybody reads this file") as caught:
        find(written(tmp_path, f'store = "{store}"'))
    assert "s3cret" not in str(caught.value)
    (tmp_path / FILE_NAME).unlink()
    with pytest.raises(UsageError, match="everybody reads this file"):
        create(tmp_path, Manifest(store))
    assert find(tmp_path) is None


def test_a_new_one(tmp_path: Path) -> None:
    made = Manifest('/data "of" ours', "/data/fsd")
    create(tmp_path, made)
    assert find(tmp_path) == made
    with pytest.raises(FsdError, match="File exists"):
        create(tmp_path, made)


def test_a_change_leaves_every_other_line(tmp_path: Path) -> None:
    top = written(
        tmp_path,
        "# ours\n" + STORE + '[follow]  # branches\n# of the base model\n"models/base" = "dev" # why\ndata = "x"\n'
        "# end\u2028of it\n",
    )
    assert set_followed(top, "data", "dev")
    assert not set_followed(top, "data", "dev")
    assert set_followed(top, "models/base", None)
    assert not set_followed(top, "nothing", None)
    assert (top / FILE_NAME).read_text() == (
        "# ours\n" + STORE + '[follow]  # branches\n# of the base model\n# end\u2028of it\n"data" = "dev"\n'
    )


@pytest.mark.parametrize("text", ['follow = {data = "x"}\n' + STORE, STORE + 'follow.data = "x"\n'])
def test_what_only_a_person_can_change(tmp_path: Path, text: str) -> None:
    top = written(tmp_path, text)
    with pytest.raises(UsageError, match='only you can change; write "data" = "dev" there'):
        set_followed(top, "data", "dev")
    with pytest.raises(UsageError, match='take "data" out there'):
        set_followed(top, "data", None)
    assert (top / FILE_NAME).read_text() == text


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    top = written(tmp_path, STORE)
    with pytest.raises(UsageError, match="is not UTF-8"):
        set_followed(top, "latin-\udce9", "dev")
    assert not set_followed(top, "latin-\udce9", None)


links = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=8)


@given(
    start=st.sampled_from([STORE, STORE.strip(), STORE + "[follow]", "[follow]\n\n", "[follow]\n# x\n"]),
    changes=st.lists(st.tuples(links, st.sampled_from([None, "main", "dev"])), max_size=8),
)
def test_changes_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, start: str, changes: list[tuple[str, str | None]]
) -> None:
    top = written(tmp_path_factory.mktemp("tree"), start if "store" in start else STORE + start)
    expected: dict[str, str] = {}
    for link, branch in changes:
        changed = expected.get(link) != branch
        expected.pop(link, None)
        if branch is not None:
            expected[link] = branch
        assert set_followed(top, link, branch) is changed
        assert load(top).follow == expected


@pytest.mark.parametrize(
    ("store", "url", "same"),
    [
        ("/data/a b", "file:///data/a%20b", True),
        ("file://localhost/data", "file:///data/", True),
        ("/data", "file:///other", False),
        ("gs://bucket/data/", "gs://bucket/data", True),
        ("gs://bucket/data", "gs://bucket/Data", False),
        ("gs://bucket/a", "file:///bucket/a", False),
    ],
)
def test_the_same_store_written_in_another_way(store: str, url: str, same: bool) -> None:
    assert Manifest(store).is_store(url) is same
