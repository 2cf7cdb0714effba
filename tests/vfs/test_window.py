"""The read-ahead policy, on sequences of reads."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from itertools import pairwise

import hypothesis.strategies as st
from hypothesis import given

from fsd.limits import KIB, MIB, Limits
from fsd.vfs.window import MAX_RUNS, Runs, Span

LIMITS = Limits(window_min_bytes=512 * KIB, window_max_bytes=8 * MIB)
GIB = 1024 * MIB


@dataclass
class Reader:
    """Feeds reads to the policy and keeps what it starts and cancels."""

    size: int = GIB
    runs: Runs = field(default_factory=lambda: Runs(LIMITS))
    started: list[Span] = field(default_factory=list)
    cancelled: list[Span] = field(default_factory=list)

    def read(self, start: int, size: int = 128 * KIB, *, missed: bool = True) -> Span | None:
        run = self.runs.note(start, start + size)
        span = self.runs.read_ahead(run, self.size, missed=missed)
        if span is not None:
            self.started.append(span)
            run.started.append((span.end, lambda: self.cancelled.append(span)))
        return span

    @property
    def under_way(self) -> list[Span]:
        return [span for span in self.started if span not in self.cancelled]


def test_reading_in_order_doubles_the_window_up_to_the_limit() -> None:
    reader = Reader()
    for number in range(400):
        reader.read(number * 128 * KIB)
    lengths = [span.end - span.start for span in reader.started]
    assert reader.started[0] == Span(128 * KIB, 128 * KIB + 512 * KIB)
    assert all(first.end == second.start for first, second in pairwise(reader.started))
    assert max(lengths) <= LIMITS.window_max_bytes
    assert reader.started[-1].end >= 400 * 128 * KIB + LIMITS.window_max_bytes // 2
    assert len(reader.started) < 30
    assert not reader.cancelled


def test_a_large_window_is_filled_in_steps() -> None:
    reader = Reader(runs=Runs(replace(LIMITS, window_max_bytes=64 * MIB, range_bytes=MIB)))
    for number in range(1000):
        reader.read(number * 128 * KIB)
    assert all(first.end == second.start for first, second in pairwise(reader.started))
    assert max(span.end - span.start for span in reader.started) == MIB
    ahead = reader.started[-1].end - 1000 * 128 * KIB
    assert 62 * MIB < ahead <= 64 * MIB
    assert not reader.cancelled


def test_nothing_is_fetched_past_the_end() -> None:
    reader = Reader(size=300 * KIB)
    for start in range(0, 300 * KIB, 128 * KIB):
        reader.read(start)
    assert reader.started == [Span(128 * KIB, 300 * KIB)]


@given(st.randoms(use_true_random=False))
def test_random_reads_fetch_nothing_ahead(choice: random.Random) -> None:
    reader = Reader()
    places = choice.sample(range(0, GIB, MIB), 200)
    for place in places:
        reader.read(place, 4 * KIB)
    assert not reader.started


def test_while_everything_is_there_nothing_is_looked_for() -> None:
    reader = Reader()
    for number in range(100):
        reader.read(number * 128 * KIB, missed=False)
    assert not reader.started
    reader.read(100 * 128 * KIB)
    reader.read(101 * 128 * KIB, missed=False)
    assert len(reader.started) == 1


def test_reading_the_same_again_is_not_reading_on() -> None:
    reader = Reader()
    assert not any(reader.read(MIB) for _ in range(10))
    assert reader.read(MIB + 128 * KIB) is not None


def test_a_header_of_one_page_fetches_nothing_ahead() -> None:
    assert Reader().read(0, 4 * KIB) is None


@given(st.lists(st.integers(0, 1), min_size=50, max_size=50))
def test_requests_slightly_out_of_order_are_still_in_order(swaps: list[int]) -> None:
    order = list(range(100))
    for pair, swap in enumerate(swaps):
        if swap:
            order[2 * pair], order[2 * pair + 1] = order[2 * pair + 1], order[2 * pair]
    reader = Reader()
    for number in order:
        reader.read(number * 128 * KIB)
    assert not reader.cancelled
    assert reader.started[-1].end > 100 * 128 * KIB


def test_who_begins_in_the_middle_pays_for_little_more_than_they_read() -> None:
    reader = Reader()
    start = 100 * MIB
    for number in range(1000):
        end = start + (number + 1) * 128 * KIB
        reader.read(end - 128 * KIB)
        ahead = max((span.end for span in reader.started), default=end) - end
        assert ahead <= max(LIMITS.window_min_bytes, (end - start) // 12)
    assert ahead > 4 * MIB


def test_a_jump_gives_the_window_up() -> None:
    reader = Reader()
    for number in range(40):
        reader.read(number * 128 * KIB)
    assert reader.under_way
    assert reader.read(500 * MIB) is None
    assert reader.cancelled == reader.started[-len(reader.cancelled) :]
    assert reader.cancelled[-1].end > 40 * 128 * KIB
    assert reader.read(500 * MIB + 128 * KIB) == Span(500 * MIB + 256 * KIB, 500 * MIB + 512 * KIB)


def test_what_was_read_already_is_not_cancelled() -> None:
    reader = Reader()
    for number in range(40):
        reader.read(number * 128 * KIB)
    reader.read(500 * MIB)
    assert reader.started[0] not in reader.cancelled


def test_readers_of_one_file_do_not_disturb_each_other() -> None:
    reader = Reader()
    bases = [number * 100 * MIB for number in range(4)]
    for number in range(60):
        for base in bases:
            reader.read(base + number * 128 * KIB)
    for base in bases:
        spans = [span for span in reader.under_way if base <= span.start < base + 100 * MIB]
        assert spans[-1].end >= base + 60 * 128 * KIB


def test_a_reader_that_left_several_is_noticed() -> None:
    reader = Reader()
    for number in range(60):
        for base in (0, 100 * MIB):
            reader.read(base + number * 128 * KIB)
    reader.cancelled.clear()
    for number in range(60, 90):
        reader.read(number * 128 * KIB)
    assert [span for span in reader.cancelled if span.start > 100 * MIB]
    assert not [span for span in reader.cancelled if span.start < 100 * MIB]


def test_dropping_the_file_cancels_everything() -> None:
    reader = Reader()
    for number in range(3):
        reader.read(number * 128 * KIB)
    reader.runs.collapse()
    assert reader.cancelled == reader.started


@given(
    st.lists(st.tuples(st.integers(0, 64 * MIB - 1), st.integers(1, 2 * MIB)), max_size=200),
    st.integers(1, 64 * MIB),
)
def test_whatever_is_read_the_window_is_bounded(reads: list[tuple[int, int]], size: int) -> None:
    reader = Reader(size=size)
    for start, length in reads:
        if start < size:
            span = reader.read(start, min(length, size - start))
            if span is not None:
                assert 0 < span.end - span.start <= LIMITS.window_max_bytes
                assert span.end <= size
    assert len(reader.runs._runs) <= MAX_RUNS
