"""What the guide's pages say is what happens: each page is run with a real store, a real mount and the real Git."""

from __future__ import annotations

import datetime
import importlib.util
import sys
from pathlib import Path

import pytest

from integration.guide import Ids, Shell, brought_up_to_date, differs, needs_of, run_page, steps_of
from integration.own_root import IN_NAMESPACES
from integration.program import Program
from integration.users import needs_root
from integration.worktrees import environment

GUIDE = Path(__file__).parents[1] / "docs" / "guide"
PAGES = sorted(page for page in GUIDE.glob("*.md") if page.name != "README.md")
STORE = "gs://team/fsd"
"""The pages' store. Here it is a folder."""


@needs_root
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_does_what_it_says(path: Path, tmp_path: Path) -> None:
    page = path.read_text()
    for name in needs_of(page):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"the page needs {name}")
    program = Program(tmp_path / "home")
    variables = environment(program)
    del variables["FSD_STORE"]
    command = (*IN_NAMESPACES, sys.executable, "-m", "integration.own_root", str(tmp_path / "root"), "bash", "-u")
    shell = Shell(
        command, {STORE: f"file://{program.home}/store"}, env=variables | {"PYTHONPATH": str(GUIDE.parents[1])}
    )
    try:
        shell.run(f"cd {program.home}")
        problems = list(run_page(page, shell))
    finally:
        shell.close()
    assert not problems, "\n\n".join(problems)


def test_every_page_shows_commands() -> None:
    assert PAGES
    for path in PAGES:
        assert list(steps_of(path.read_text())), path


def test_blocks_are_cut_into_commands() -> None:
    page = "text\n```console\n$ a\n$ b \\\n> c\nd\n\n> e\n```\n```sh\n$ f\n```\n<!--\n```console\n$ g\n```\n-->\n"
    assert list(steps_of(page)) == [("a", []), ("b \\\nc", ["d", "", "> e"]), ("g", [])]
    with pytest.raises(ValueError, match="begins with 'a'"):
        list(steps_of("```console\na\n```\n"))


@pytest.mark.parametrize(
    ("expected", "shown", "same"),
    [
        ("a b", "a    b", True),
        ("a b", "a c", False),
        ("a b", "a b\nc", False),
        ("a b\nc", "a b", False),
        ("a … c", "a b b c", True),
        ("a\n…\nd", "a\nb\nc\nd", True),
        ("a\n…", "a", True),
        ("a\n…\nd", "a\nb", False),
        ("0.3 s of 2026-11-17 09:30:00", "12.0 s of 2027-01-01 23:00:00", True),
        ("0.3 s", "0.3 ms", False),
        ("4f2a91c0d3e7 is 4f2a91c", "0123456789ab is 0123456", True),
        ("4f2a91c0d3e7 is 4f2a91c", "0123456789ab is 0123457", False),
        ("4f2a91c0d3e7 and 91bb0c77aa10", "0123456789ab and 0123456789ab", False),
        ("4f2a91c0d3e7", "not an id...", False),
        ("1234567 files", "1234568 files", False),
    ],
)
def test_what_is_shown_is_compared(expected: str, shown: str, same: bool) -> None:
    assert (differs(expected.split("\n"), shown.split("\n"), Ids()) == "") is same


def test_ids_are_known_later_on() -> None:
    ids = Ids()
    assert differs(["4f2a91c0d3e7"], ["0123456789ab"], ids) == ""
    assert ids.replaced("fsd pin x 4f2a91c; echo 91bb0c77aa10") == "fsd pin x 0123456; echo 91bb0c77aa10"
    assert differs(["4f2a91c"], ["0123457"], ids) != ""


def test_a_page_is_brought_up_to_date() -> None:
    today = datetime.datetime.now(datetime.UTC).date()
    page = "<!-- today: 2026-03-01 -->\nmain@2026-02-28T09:30 and 2026-03-01"
    assert brought_up_to_date(page).splitlines()[1] == f"main@{today - datetime.timedelta(1)}T09:30 and {today}"
    assert brought_up_to_date("main@2026-02-28") == "main@2026-02-28"
