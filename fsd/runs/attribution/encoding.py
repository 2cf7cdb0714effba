"""Factors as the columns of a regression: standardised numbers, one column a level of anything else.

Needs numpy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fsd.runs.attribution.aliases import FactorGroup
from fsd.runs.attribution.scales import Factor, Scale, show_level
from fsd.runs.attribution.thresholds import BEND_RUNS_PER_COLUMN, BEND_VALUES
from fsd.runs.attribution.trials import Value, key

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

RANK_TOLERANCE = 1e-9
"""A direction in which the columns vary so little of the most, they do not vary in."""


@dataclass(frozen=True)
class Block:
    """The columns of one group of factors."""

    group: FactorGroup
    columns: slice
    rank: int
    contrasts: tuple[tuple[str, Floats], ...]
    """A unit, and by what the coefficients of all columns are to be multiplied for the effect of that unit. Of a number
    one; of levels one for each but the most frequent, from which they lead away."""


@dataclass(frozen=True)
class Design:
    """The columns of all groups over all runs, each with a mean of 0 and a standard deviation of 1."""

    matrix: Floats
    blocks: tuple[Block, ...]
    encoders: tuple[Encoder, ...]

    @property
    def rank(self) -> int:
        """Different directions in which the runs vary: columns, less those that others make up."""
        return rank_of(self.matrix)

    def row(self, factors: Mapping[str, Value]) -> Floats:
        """The columns of a run that need not have been run."""
        return np.concatenate([encoder.row(factors.get(encoder.factor.name)) for encoder in self.encoders])


class Encoder:
    """The columns of one factor."""

    def __init__(self, factor: Factor, *, bend: bool) -> None:
        """`bend` gives a number a second column: its square, less what a straight line has of that."""
        self.factor = factor
        self._levels = [key(level) for level in factor.levels]
        self._bend: tuple[float, float, float] | None = None
        self._has_gaps = None in factor.positions
        self._filler = 0.0
        if factor.scale is not Scale.LEVELS:
            known = np.array([x for x in factor.positions if x is not None])
            self._filler = float(known.mean())
            if bend:
                z = known - self._filler
                line = np.polyfit(z, z**2, 1)
                self._bend = (self._filler, float(line[0]), float(line[1]))
        raw = np.array([self._raw(value) for value in factor.values])
        self._mean = raw.mean(axis=0)
        spread = raw.std(axis=0)
        self._spread = np.where(spread > 0, spread, 1.0)
        self.columns: Floats = (raw - self._mean) / self._spread

    def row(self, value: Value) -> Floats:
        """The columns of one run. A level that no run had is none of them."""
        row: Floats = (np.array(self._raw(value)) - self._mean) / self._spread
        return row

    def contrasts(self) -> list[tuple[str, Floats]]:
        """As in `Block`, over this factor's columns only."""
        if self.factor.scale is not Scale.LEVELS:
            weights = np.zeros(len(self._mean))
            weights[0] = 1 / self._spread[0]
            return [(self.factor.unit, weights)]
        usual, *others = self.factor.levels
        return [(f"{show_level(usual)} → {show_level(level)}", self.row(level) - self.row(usual)) for level in others]

    def _raw(self, value: Value) -> list[float]:
        if self.factor.scale is Scale.LEVELS:
            return [float(key(value) == level) for level in self._levels]
        position = self.factor.position(value)
        x = self._filler if position is None else position
        columns = [x]
        if self._bend is not None:
            centre, slope, level = self._bend
            columns.append((x - centre) ** 2 - slope * (x - centre) - level)
        if self._has_gaps:
            columns.append(float(position is None))
        return columns


def encode(groups: Sequence[FactorGroup], n: int) -> Design:
    """The design of these groups over `n` runs; numbers are given a bend if there are runs enough for all of them."""
    bent = _design(groups, bends=True)
    return bent if n >= BEND_RUNS_PER_COLUMN * bent.rank else _design(groups, bends=False)


def _design(groups: Sequence[FactorGroup], *, bends: bool) -> Design:
    blocks, encoders = [], []
    start = 0
    layouts: list[tuple[FactorGroup, slice, int, list[tuple[str, Floats]]]] = []
    for group in groups:
        # The lead determines the others, or is proportional to them: their columns would bring nothing.
        lead = group.lead
        values = {x for x in lead.positions if x is not None}
        encoder = Encoder(lead, bend=bends and lead.scale is not Scale.LEVELS and len(values) >= BEND_VALUES)
        width = encoder.columns.shape[1]
        layouts.append((group, slice(start, start + width), rank_of(encoder.columns), encoder.contrasts()))
        encoders.append(encoder)
        start += width
    for group, columns, rank, contrasts in layouts:
        whole = []
        for unit, weights in contrasts:
            padded = np.zeros(start)
            padded[columns] = weights
            whole.append((unit, padded))
        blocks.append(Block(group, columns, rank, tuple(whole)))
    matrix = np.hstack([encoder.columns for encoder in encoders])
    return Design(matrix, tuple(blocks), tuple(encoders))


def rank_of(matrix: Floats) -> int:
    """Directions in which the rows vary."""
    if not matrix.size:
        return 0
    spreads = np.linalg.svd(matrix, compute_uv=False)
    return int((spreads > RANK_TOLERANCE * max(spreads[0], 1e-300)).sum())
