"""Where a factor's values stand on an axis from 0 to 1, and what is written beside it. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fsd.runs.attribution.scales import is_evidently_log, show_level
from fsd.runs.attribution.trials import Key, Value, is_number, key
from fsd.runs.plotting.story import levels_of

MAX_TICKS = 7

_ABSENT = -0.03
"""Where a run has no such number: below the axis."""


@dataclass(frozen=True, slots=True)
class Scale:
    """An axis."""

    name: str
    levels: Mapping[Key, float]
    """Of what is no number: each value's place."""
    low: float
    high: float
    """Of numbers, logarithms of them where `is_log`."""
    is_log: bool
    ticks: tuple[tuple[float, str], ...]
    """Place and text of each."""

    def place(self, value: Value) -> float:
        """Where a value stands."""
        if self.levels:
            return self.levels.get(key(value), _ABSENT)
        if not is_number(value):
            return _ABSENT
        number = float(value)  # type: ignore[arg-type]
        number = math.log10(number) if self.is_log else number
        return 0.5 if self.high == self.low else (number - self.low) / (self.high - self.low)


def scale_of(name: str, values: Sequence[Value], *, is_log: bool) -> Scale:
    """The axis of a factor that has these values."""
    numbers = [float(value) for value in values if is_number(value)]  # type: ignore[arg-type]
    if not numbers or any(not is_number(value) and value is not None for value in values):
        levels = levels_of(values)
        last = len(levels) - 1
        places = [number / last if last else 0.5 for number in range(len(levels))]
        shown = list(zip(places, map(show_level, levels), strict=True))
        return Scale(
            name, {key(level): place for level, place in zip(levels, places, strict=True)}, 0, 1, False, _few(shown)
        )
    is_log = min(numbers) > 0 and (is_log or is_evidently_log(numbers))
    ends = [math.log10(number) if is_log else number for number in (min(numbers), max(numbers))]
    scale = Scale(name, {}, ends[0], ends[1], is_log, ())
    distinct = sorted(set(numbers))
    marks = distinct if len(distinct) <= MAX_TICKS - 1 else _round_numbers(distinct[0], distinct[-1], is_log=is_log)
    ticks = _apart([(scale.place(mark), f"{mark:.4g}") for mark in marks])
    if None in values:
        ticks = [(_ABSENT, "none"), *[tick for tick in ticks if tick[0] > 0.05]]
    return Scale(name, {}, ends[0], ends[1], is_log, tuple(ticks))


def _round_numbers(low: float, high: float, *, is_log: bool) -> list[float]:
    """The ends, and round numbers between them."""
    if is_log:
        between = [10.0**power for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]
        step = math.ceil(len(between) / (MAX_TICKS - 2)) if between else 1
        return [low, *between[::step], high]
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step_size = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.ceil(low / step_size)
    return [low, *(step_size * number for number in range(first, math.floor(high / step_size) + 1)), high]


def _apart(ticks: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """Those that do not stand in each other's way; the ends stay."""
    ends = [ticks[0], ticks[-1]]
    kept = [ends[0]]
    for tick in ticks[1:-1]:
        if tick[0] - kept[-1][0] >= 0.055 and ends[1][0] - tick[0] >= 0.055:
            kept.append(tick)
    return kept if ends[1][0] == kept[-1][0] else [*kept, ends[1]]


def _few(ticks: Sequence[tuple[float, str]]) -> tuple[tuple[float, str], ...]:
    """Of many levels, some: their texts would lie over each other."""
    step = math.ceil(len(ticks) / 16)
    return tuple(ticks[::step])
