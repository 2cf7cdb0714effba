"""`fsd ls`, `log` and `cat`, on a store that is only read."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fsd.vfs.pieces import Pieces
from fsd_cli.cat import contents_of
from tests.publish.folders import Desk, file

from .conftest import Fsd


def commit_of(look: Fsd, name: str) -> str:
    (row,) = (row for row in look.json("ls", "birds") if row["name"] == name)
    return str(row["commit"])


# --- ls


def test_ls_of_nothing(fsd: Fsd) -> None:
    assert "'fsd commit DIR REPO' makes one at" in fsd.fails(4, "ls")
    fsd("init")
    code, out, err = fsd.result("ls")
    assert (code, out) == (0, "")
    assert "has no repositories yet" in err
    assert fsd.json("ls") == []


def test_ls_repositories(look: Fsd) -> None:
    birds, model = look.json("ls")
    assert {key: birds[key] for key in ("repository", "branches", "tags", "subsets")} == {
        "repository": "birds",
        "branches": 2,
        "tags": 2,
        "subsets": 1,
    }
    assert set(birds["main"]) == {"commit", "files", "bytes", "time"}
    assert model["main"]["files"] == 20
    lines = look("ls").splitlines()
    assert lines[0].split() == ["REPOSITORY", "BRANCHES", "TAGS", "SUBSETS", "MAIN", "FILES", "SIZE", "SINCE"]
    assert lines[1].split()[:5] == ["birds", "2", "2", "1", birds["main"]["commit"][:12]]
    assert lines[2].split()[0] == "model"


def test_ls_refs(look: Fsd) -> None:
    rows = look.json("ls", "birds")
    assert [(row["name"], row["kind"]) for row in rows] == [
        ("dev", "branch"),
        ("main", "branch"),
        ("v1", "tag"),
        ("v2", "tag"),
        ("tiny", "subset"),
    ]
    main, tiny = rows[1], rows[4]
    assert set(main) == {"name", "kind", "commit", "source", "files", "bytes", "time", "summary"}
    assert (main["source"], main["summary"]) == (None, "Labels")
    assert tiny["source"] == main["commit"]
    assert [line.split()[:2] for line in look("ls", "birds/").splitlines()[1:3]] == [
        ["dev", "branch"],
        ["main", "branch"],
    ]


def test_ls_entries(look: Fsd) -> None:
    assert look("ls", "birds/v1").splitlines() == [
        "empty/",
        "images/",
        "labels.csv",
        "large.bin",
        "latest",
        '"latin-\\xe9"',
        '"odd\\nname \\x1b[1m"',
        "run.sh",
    ]
    assert look("ls", "birds/v1/empty") == ""
    assert look("ls", "birds/v1/images").splitlines() == ["robin/", "wren/"]
    assert look("ls", "birds/v1//images/./wren/").splitlines() == [f"{number}.jpg" for number in range(10)]
    assert look("ls", "birds/v1/labels.csv") == "labels.csv\n"


def test_ls_long(look: Fsd) -> None:
    lines = look("ls", "-l", "birds/v1").splitlines()
    assert lines[0].split() == ["d", "empty/"]
    assert lines[3].split() == ["-", "4.8", "MiB", "large.bin"]
    assert lines[4].split() == ["l", "latest", "->", "images/wren"]
    assert lines[7].split() == ["x", "10", "B", "run.sh"]


def test_ls_entries_as_json(look: Fsd) -> None:
    entries = {entry["name"]: entry for entry in look.json("ls", "birds/v1")}
    assert entries["latest"]["target"] == "images/wren"
    assert (entries["run.sh"]["executable"], entries["labels.csv"]["executable"]) == (True, False)
    assert (entries["empty"]["kind"], entries["empty"]["content"]) == ("directory", None)
    assert any(name.encode("utf-8", "surrogateescape") == b"latin-\xe9" for name in entries)
    assert look.json("ls", "birds/v1/empty") == []
    assert look.json("ls", "birds/v1/run.sh") == [entries["run.sh"]]


def test_ls_recursive(look: Fsd) -> None:
    paths = [entry["name"] for entry in look.json("ls", "-R", "birds/v2")]
    assert len(paths) == len(set(paths)) == 30
    assert "images/wren/3.jpg" in paths
    assert look("ls", "-R", "birds/v2/images").splitlines()[:3] == [
        "images/robin/",
        "images/wren/",
        "images/robin/0.jpg",
    ]
    look.fails(2, "ls", "-R")
    look.fails(2, "ls", "-R", "birds")


def test_ls_of_subsets_and_commits(look: Fsd) -> None:
    tiny = [entry["name"] for entry in look.json("ls", "-R", "birds/v2+tiny") if entry["kind"] != "directory"]
    assert len([name for name in tiny if name.startswith("images/wren/")]) == 2
    assert "labels.csv" in tiny
    look("ls", "birds/v1+50pct")
    commit = commit_of(look, "v1")
    assert look("ls", f"birds/{commit}") == look("ls", f"birds/{commit[:7]}") == look("ls", "birds/v1")


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("brids", "did you mean 'birds'?"),
        ("zzz", "'fsd ls' lists the repositories"),
        ("brids/v1", "did you mean 'birds'?"),
        ("birds/v3", "did you mean 'v2' or 'v1'?"),
        ("birds/v2+tny", "did you mean 'tiny'?"),
        ("birds/v1+tiny", "tiny"),
        ("birds/v1/imges", "no imges in birds/v1; did you mean 'images'?"),
        ("birds/v1/images/wern", "no wern in birds/v1/images; did you mean 'wren'?"),
        ("birds/v1/run.sh/x", "run.sh in birds/v1 is a file"),
        ("birds/v1/latest/0.jpg", "latest in birds/v1 is a symlink; it points to images/wren"),
        ("birds/0123456789ab", "0123456789ab"),
    ],
)
def test_what_is_not_there(place: str, words: str, look: Fsd) -> None:
    assert words in look.fails(4, "ls", place)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("-x", "no such option"),
        ("/", "is not a repository name"),
        ("bi rds", "is not a repository name"),
        ("birds/v1+", "is not a revision"),
        ("birds/v1+a+b", "is not a revision"),
        ("birds/v1/../v2", "'..'"),
    ],
)
def test_malformed_places(place: str, words: str, look: Fsd) -> None:
    assert words in look.fails(2, "ls", place)


# --- log


def test_log(look: Fsd) -> None:
    second, first = look.json("log", "birds")
    assert set(second) == {"commit", "time", "author", "message", "parents", "names", "files", "bytes"}
    assert (second["message"], second["names"]) == ("Labels\n\nfor all of them", ["main", "v2"])
    assert second["parents"] == [first["commit"]]
    assert (first["parents"], first["names"], first["author"]) == ([], ["dev", "v1"], "someone")
    assert look.json("log", "birds/v1") == look.json("log", f"birds/{first['commit'][:8]}") == [first]
    lines = look("log", "birds").splitlines()
    assert lines[0].split() == ["COMMIT", "TIME", "AUTHOR", "FILES", "SIZE", "NAMES", "SUMMARY"]
    assert lines[1].startswith(second["commit"][:12])
    assert lines[1].endswith("main, v2  Labels")


def test_log_in_part(look: Fsd) -> None:
    lines = look("log", "birds", "-n", "1").splitlines()
    assert len(lines) == 3
    assert lines[2] == "(older ones: fsd log birds/main -n 10)"
    assert len(look.json("log", "birds", "-n", "1")) == 1
    look.fails(2, "log", "birds", "-n", "0")


def test_log_of_moves(look: Fsd) -> None:
    moves = look.json("log", "birds", "--moves")
    assert [move["summary"] for move in moves] == ["Labels", "The first birds"]
    assert len(look.json("log", "birds/v1", "--moves")) == 1
    assert len(look("log", "birds/dev", "--moves").splitlines()) == 2
    look.fails(4, "log", "birds/tiny", "--moves")


def test_an_authors_name_cannot_break_the_table(look: Fsd) -> None:
    assert '"some\\none"' in look("log", "model").splitlines()[1]


def test_log_of_what_has_none(look: Fsd) -> None:
    assert "no history of its own" in look.fails(2, "log", "birds/v2+tiny")
    assert "goes on after the revision" in look.fails(2, "log", "birds/v2/images")
    assert "did you mean 'birds'?" in look.fails(4, "log", "brids")


# --- cat


def start(published: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """`fsd` as a process of its own, that may write as it likes."""
    command = [sys.executable, "-m", "fsd_cli", "--store", os.fspath(published), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize(
    "name", ["large.bin", "run.sh", os.fsdecode(b"latin-\xe9"), "odd\nname \x1b[1m", "images/wren/3.jpg"]
)
def test_cat(name: str, published: Path) -> None:
    with start(published, "cat", f"birds/v2/{name}") as process:
        out, err = process.communicate(timeout=60)
    assert err == b""
    assert out == (published.parent / "birds" / name).read_bytes()


def test_ctrl_c_while_somebody_is_slow_to_read(published: Path) -> None:
    with start(published, "cat", "birds/v2/large.bin") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert len(process.stdout.read(1)) == 1, "it is at it, and will not get rid of 5 MB"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        assert process.stderr.read() == b""


@pytest.mark.parametrize("arguments", [["cat", "birds/v2/large.bin"], ["ls", "-R", "birds/v2"], ["log", "birds"]])
def test_a_reader_that_goes_away(arguments: list[str], published: Path) -> None:
    with start(published, *arguments) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.wait(timeout=60) == 141
        assert process.stderr.read() == b""


@pytest.mark.parametrize("size", [10, 100_000, 9_000_000])
async def test_cat_of_what_gc_deletes_and_somebody_publishes_again(size: int, tmp_path: Path) -> None:
    folder = {b"file": file(random.Random(size).randbytes(size))}
    desk = Desk(tmp_path)
    repositories = await desk.repositories()
    tree = await repositories.tree((await desk.commit(folder)).commit)
    found = await tree.find(b"", b"file")
    assert found is not None
    entry = found.page.entry(found.position)
    await Pieces(entry, repositories.objects).leaves(0, size)  # now all of it is in memory
    for prefix in ("packs/", "pages/", "recipes/"):
        async for info in desk.store.list(prefix):
            await desk.store.delete(info.key)
    await Desk(tmp_path, "other", store=desk.store).commit(folder, branch="again")
    assert b"".join([part async for part in contents_of(repositories, tree, entry)]) == folder[b"file"].data


def test_cat_of_what_is_no_file(look: Fsd) -> None:
    assert "is a directory" in look.fails(2, "cat", "birds/v1/images")
    assert "is a symlink to images/wren" in look.fails(2, "cat", "birds/v1/latest")
    assert "names no file" in look.fails(2, "cat", "birds/v1")
    assert "did you mean 'run.sh'?" in look.fails(4, "cat", "birds/v1/run.s")


# --- stores


def test_what_is_no_store(fsd: Fsd, tmp_path: Path) -> None:
    assert "fsd init" in fsd.fails(4, "--store", tmp_path / "nowhere", "ls")
    assert "is not an fsd store" in fsd.fails(4, "ls", "--store", tmp_path)


def test_a_store_of_a_newer_fsd(fsd: Fsd, tmp_path: Path) -> None:
    store = tmp_path / "store"
    fsd("init", store)
    marker: dict[str, Any] = json.loads((store / "fsd.json").read_text())
    (store / "fsd.json").write_text(json.dumps(marker | {"version": 2}))
    assert "install a newer fsd" in fsd.fails(6, "--store", store, "ls")
    (store / "fsd.json").write_text("{")
    fsd.fails(6, "--store", store, "ls")


def test_a_torn_ref(fsd: Fsd, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("content")
    fsd("commit", tmp_path / "folder", "repo")
    ref = fsd.own_store / "refs" / "repo" / "main"
    ref.write_bytes(ref.read_bytes()[:-10])
    assert "does not match its checksum" in fsd.fails(6, "ls", "repo/main")


def test_the_configuration_names_the_store(fsd: Fsd, published: Path, tmp_path: Path) -> None:
    config = fsd.home / "config" / "fsd" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'store = "{published}"\n')
    assert len(fsd.json("ls")) == 2
    (tmp_path / "other.toml").write_text(f'store = "{tmp_path}/nowhere"\n')
    fsd.fails(4, "--config", tmp_path / "other.toml", "ls")
    config.write_text("stroe = 3\n")
    assert "did you mean 'store'?" in fsd.fails(2, "ls")


def flip(path: Path) -> None:
    """Change the byte in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("folder", "arguments"),
    [("commits", ["ls", "repo/main"]), ("pages", ["ls", "repo/main"]), ("packs", ["cat", "repo/main/file"])],
)
def test_a_flipped_bit(folder: str, arguments: list[str], fsd: Fsd, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(os.urandom(10_000))
    fsd("commit", tmp_path / "folder", "repo")
    (damaged,) = (path for path in (fsd.own_store / folder).rglob("*") if path.is_file())
    flip(damaged)
    fsd.fails(6, *arguments)


def test_a_store_that_does_not_answer(fsd: Fsd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")
    (tmp_path / "hasty.toml").write_text("[limits]\nstore_retry_s = 0\nstore_timeout_s = 1\n")
    told = fsd.fails(5, "--config", tmp_path / "hasty.toml", "--store", "gs://bucket/prefix", "ls")
    assert "gs://bucket/prefix" in told
