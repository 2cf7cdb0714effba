"""Hostile objects of every kind, some hundred each time; `script/fuzz` takes a million."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsd.errors import CorruptDataError
from tests.hostile.__main__ import batches
from tests.hostile.forging import warm_up
from tests.hostile.judging import Judge, TooSlowError, limited
from tests.hostile.kinds import KINDS, HostileKind
from tests.hostile.stores import opened
from tests.hostile.stuffing import stuffed

CASES = 150


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    warm_up()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_parsers(kind: HostileKind) -> None:
    judge = Judge()
    for number in range(CASES):
        judge.run(kind.name, f"{kind.name}/0/{number}", kind.make)
    assert judge.tally.findings == []
    assert judge.tally.refused > CASES // 4


@given(st.sampled_from(KINDS), st.integers())
@settings(max_examples=200)
def test_parsers_at_random(kind: HostileKind, seed: int) -> None:
    judge = Judge()
    judge.run(kind.name, f"{kind.name}/{seed}/0", kind.make)
    assert judge.tally.findings == []


def test_what_is_as_large_as_can_be() -> None:
    judge = Judge()
    for number in range(4):
        judge.run("stuffed", f"stuffed/0/{number}", stuffed)
    assert judge.tally.findings == []


@pytest.mark.usefixtures("error_logs")
@pytest.mark.timeout_s(120)
async def test_a_whole_reader(tmp_path: Path) -> None:
    async with opened(tmp_path / "cache") as visitor:
        for number in range(60):
            await visitor.visit(f"store/0/{number}")
    assert visitor.tally.findings == []
    assert visitor.tally.refused > 30


def test_the_judge_finds_what_is_to_be_found() -> None:
    """Other errors, long messages, cases without an end, and memory."""
    kept: list[bytes] = []

    def endless(_: random.Random) -> None:
        while True:
            pass

    def long_message(_: random.Random) -> None:
        raise CorruptDataError("x" * 1000)

    judge = Judge(case_s=0.2)
    judge.run("key", "1", lambda rng: lambda: {}[rng.random()])
    judge.run("long", "2", lambda rng: lambda: long_message(rng))
    judge.run("endless", "3", lambda rng: lambda: endless(rng))
    judge.run("large", "4", lambda _: lambda: kept.append(b"x" * 700_000_000))
    assert {finding.kind for finding in judge.tally.findings} == {"key", "long", "endless", "large"}
    assert "grown" in judge.tally.findings[-1].what
    with pytest.raises(TooSlowError), limited(0.05):
        endless(random.Random())


def test_cases_are_shared_out() -> None:
    made = batches(100_000, 1)
    assert sum(batch.count for batch in made) == 100_000
    assert {batch.kind for batch in made} == {"store", "stuffed", *(kind.name for kind in KINDS)}
    names = [name for batch in made for name in batch.names()]
    assert len(set(names)) == len(names)
