"""The progress bar: when it is drawn, and how."""

from __future__ import annotations

import io
import re

import hypothesis
import hypothesis.strategies as st
import pytest
import trio

from fsd_cli.bar import ITEM_BYTES, Amount, Sample, draw, rate_of
from fsd_cli.progress import ProgressBar
from fsd_cli.text import width

pytestmark = pytest.mark.usefixtures("autojump_clock")

MEBIBYTE = 1 << 20


class Screen(io.TextIOWrapper):
    """A stream that says it is a terminal, or not."""

    def __init__(self, *, terminal: bool = True, encoding: str = "utf-8") -> None:
        self.sink = io.BytesIO()
        self.terminal = terminal
        super().__init__(self.sink, encoding=encoding, write_through=True)

    def isatty(self) -> bool:
        return self.terminal

    def drawings(self) -> list[str]:
        return self.sink.getvalue().decode(self.encoding).split("\r\x1b[K")[1:]


def uncoloured(line: str) -> str:
    return re.sub(r"\x1b\[[0-9]*m", "", line)


def test_draw() -> None:
    line = draw("read", Amount(61 * MEBIBYTE), Amount(100 * MEBIBYTE), (13 * MEBIBYTE, 13 * MEBIBYTE), cells=100)
    assert uncoloured(line) == f"read {'━' * 33}  61%    61.0 MiB of 100.0 MiB    13.0 MiB/s  3.0 s left"
    plain = draw("read", Amount(50), Amount(100), cells=80, plain=True)
    assert plain == "read ########---------  50%        50 B of 100 B         0 B/s"
    assert draw("read", Amount(50, 3), None, (7, 7), cells=60) == "read  3 files  50 B  7 B/s"
    assert " 100%         0 B of 0 B" in draw("read", Amount(), Amount(), cells=60)


def test_files_count_however_small_they_are() -> None:
    line = draw("read", Amount(0, 500), Amount(0, 1000), (0, 500 * ITEM_BYTES), cells=80)
    assert line.split("%")[0].endswith(" 50")
    assert line.endswith("1.0 s left")


amounts = st.builds(Amount, st.integers(0, 10**15), st.integers(0, 10**9))


@hypothesis.given(
    amounts,
    st.none() | amounts,
    st.tuples(st.floats(0, 1e12), st.floats(0, 1e12)),
    st.integers(1, 200),
    st.booleans(),
)
def test_a_line_is_never_wider_than_the_terminal(
    done: Amount, total: Amount | None, rate: tuple[float, float], cells: int, plain: bool
) -> None:
    line = uncoloured(draw("read", done, total, rate, cells=cells, plain=plain))
    assert width(line) <= cells
    assert "\n" not in line


def test_rate_of() -> None:
    first = Sample(1.0, Amount())
    assert rate_of([]) == (0, 0)
    assert rate_of([first]) == (0, 0)
    assert rate_of([first, Sample(1.0, Amount(10))]) == (0, 0)
    assert rate_of([first, Sample(3.0, Amount(10, 1))]) == (5, 5 + ITEM_BYTES / 2)


async def test_what_is_over_within_a_second_draws_nothing() -> None:
    screen = Screen()
    async with ProgressBar("read", stream=screen).ticking() as bar:
        bar.expect(2 * MEBIBYTE)
        await trio.sleep(0.9)
        bar.advance(2 * MEBIBYTE)
    assert screen.sink.getvalue() == b""


async def test_it_is_drawn_at_most_ten_times_a_second_and_cleared() -> None:
    screen = Screen()
    async with ProgressBar("read", stream=screen, cells=lambda: 80).ticking() as bar:
        bar.expect(10_000)
        for _ in range(10_000):
            await trio.sleep(0.0003)
            bar.advance(1)
    drawings = screen.drawings()
    assert 15 <= len(drawings) <= 22
    assert drawings[-1] == "", "the last thing is an empty line"
    assert "3.3 KiB/s" in drawings[-2]


async def test_a_stall_shows() -> None:
    screen = Screen()
    async with ProgressBar("read", stream=screen, cells=lambda: 80).ticking() as bar:
        bar.expect(100)
        await trio.sleep(1.5)
        bar.advance(50)
        await trio.sleep(20)
    assert " 0 B/s" in screen.drawings()[-2]


async def test_nothing_is_drawn_where_nobody_looks() -> None:
    screen = Screen(terminal=False)
    async with ProgressBar("read", stream=screen).ticking() as bar:
        bar.expect(100)
        await trio.sleep(5)
        bar.advance(100)
    assert screen.sink.getvalue() == b""


async def test_a_terminal_without_unicode_gets_ascii() -> None:
    screen = Screen(encoding="latin-1")
    async with ProgressBar("read", stream=screen, cells=lambda: 80).ticking() as bar:
        bar.expect(100)
        await trio.sleep(2)
        bar.advance(50)
        await trio.sleep(1)
    assert "######" in screen.drawings()[-2]


async def test_an_exception_passes_and_the_line_is_cleared() -> None:
    screen = Screen()
    with pytest.RaisesGroup(ValueError):
        async with ProgressBar("read", stream=screen, cells=lambda: 80).ticking() as bar:
            bar.expect(100)
            await trio.sleep(2)
            raise ValueError
    assert screen.drawings()[-1] == ""
