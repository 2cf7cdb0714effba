"""The documentation's own order: every page is listed, every link leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


def links_of(page: Path) -> set[str]:
    """Links to files, without what follows a '#'."""
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    return {target for target in targets if "://" not in target}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_links_lead_somewhere(page: Path) -> None:
    assert [target for target in links_of(page) if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("folder", [DOCS, DOCS / "decisions", DOCS / "guide"], ids=lambda folder: folder.name)
def test_every_page_is_in_the_table_of_contents(folder: Path) -> None:
    listed = links_of(folder / "README.md")
    assert {page.name for page in folder.glob("*.md")} - {"README.md"} <= listed


def test_a_decision_has_its_own_number_and_title() -> None:
    pages = sorted((DOCS / "decisions").glob("[0-9]*.md"))
    index = (DOCS / "decisions/README.md").read_text()
    assert len({page.name[:4] for page in pages}) == len(pages)
    for page in pages:
        title = page.read_text().splitlines()[0].removeprefix("# ")
        assert f"| [{page.name[:4]}]({page.name}) | {title} |" in index
