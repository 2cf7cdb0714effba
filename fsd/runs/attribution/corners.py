"""Between two runs A and B: the mixtures of their factors, which of them were run, and which are worth running.

A *corner* has the value of A or that of B in each factor that differs, and what both have in the others. Which factors
are B's is a bit mask over the players: 0 is A, all ones is B.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum

from fsd.runs.attribution.shapley import Coalition
from fsd.runs.attribution.thresholds import CORNER_PLAYERS, SHAPLEY_RUNS_PLAYERS
from fsd.runs.attribution.trials import Change, Key, Role, Trial, Value, changes, factor_names, measured, setting


class PlanKind(StrEnum):
    """What the planned runs are for."""

    SHAPLEY = "shapley"
    ABLATION = "ablation"


@dataclass(frozen=True, slots=True)
class Configuration:
    """A run that is missing."""

    factors: dict[str, Value]
    """All of them, the seeds being those of A. A factor that is not here must not be set."""
    changed: tuple[str, ...]
    """The factors that have B's value rather than A's."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The runs that are missing for an answer without a model."""

    kind: PlanKind
    configurations: tuple[Configuration, ...]
    """To run now, in any order. When they are among the trials, ask again: an ablation decides each step by the one
    before. Empty when everything was run."""
    at_most: int
    """How many runs there may still be in all, these included."""


@dataclass(frozen=True, slots=True)
class Path:
    """An order of changing A into B (or back) in which each step was run, and moved the metric furthest of all that
    were left."""

    start: str
    """The run that it begins at."""
    order: tuple[str, ...]
    diffs: tuple[float, ...]
    """What each step moved, in the order of `order`; they sum to the difference between both ends."""


class Corners:
    """The corners between two runs of a log, and what was measured there."""

    def __init__(
        self, trials: Iterable[Trial], a: Trial, b: Trial, metric: str, *, ignored: Collection[str] = ()
    ) -> None:
        """`ignored` factors may have any value. Raises NotFoundError if A or B lacks the metric."""
        self.a, self.b = a, b
        differing = (change for change in changes(a, b) if change.param not in ignored)
        self.players: tuple[Change, ...] = tuple(change for change in differing if change.role is not Role.SEED)
        """The factors that differ, seeds left out."""
        self.all: Coalition = (1 << len(self.players)) - 1
        known = [*trials, a, b]
        self._names = [name for name in factor_names(known) if name not in ignored]
        self.old, self.new = measured(a, metric), measured(b, metric)
        self._ends = {0: self.old, self.all: self.new}
        self._metrics = defaultdict(list)
        for trial in {trial.id: trial for trial in known}.values():
            value = trial.metric(metric)
            if value is not None:
                self._metrics[setting(trial, self._names)].append(value)

    @property
    def diff(self) -> float:
        """B's metric less A's."""
        return self.new - self.old

    def value(self, corner: Coalition) -> float | None:
        """The metric there, the mean of replicates; at A and B what these two runs have. None if it was not run."""
        if corner in self._ends:
            return self._ends[corner]
        values = self._metrics.get(self._setting(corner))
        return math.fsum(values) / len(values) if values else None

    def replicates(self, corner: Coalition) -> int:
        """Runs that `value` is the mean of."""
        return 1 if corner in self._ends else len(self._metrics.get(self._setting(corner), ()))

    def missing(self) -> list[Coalition]:
        """The corners that were not run."""
        return [corner for corner in range(self.all + 1) if self.value(corner) is None]

    @property
    def can_be_complete(self) -> bool:
        """Few enough players to look at every corner."""
        return len(self.players) <= CORNER_PLAYERS

    def configuration(self, corner: Coalition) -> Configuration:
        """What to run for a corner."""
        factors = dict(self.a.factors)
        changed = [change for number, change in enumerate(self.players) if corner >> number & 1]
        for change in changed:
            factors.pop(change.param, None)
            if change.param in self.b.factors:
                factors[change.param] = change.new
        return Configuration(factors, tuple(change.param for change in changed))

    def _setting(self, corner: Coalition) -> tuple[Key, ...]:
        mixed = Trial("", None, 0, self.configuration(corner).factors, {})
        return setting(mixed, self._names)


def plan(corners: Corners) -> Plan:
    """The runs that are missing: all corners for up to `SHAPLEY_RUNS_PLAYERS` factors, an ablation path from either end
    for more. For one factor, or none, there are none."""
    count = len(corners.players)
    if count <= SHAPLEY_RUNS_PLAYERS:
        missing = corners.missing()
        return Plan(PlanKind.SHAPLEY, tuple(map(corners.configuration, missing)), len(missing))
    needed: dict[Coalition, None] = {}
    at_most = 0
    for backwards in (False, True):
        walk = walk_path(corners, backwards=backwards)
        needed |= dict.fromkeys(walk.missing)
        left = count - len(walk.steps)
        if walk.missing:  # then, one fewer at each step; the last step ends at a run that is there
            at_most += len(walk.missing) + max(0, (left - 1) * left // 2 - 1)
    return Plan(PlanKind.ABLATION, tuple(map(corners.configuration, needed)), at_most)


@dataclass(frozen=True, slots=True)
class Walk:
    """An ablation path as far as the log leads."""

    steps: tuple[tuple[int, float], ...]
    """The player that was changed, and what that moved."""
    missing: tuple[Coalition, ...]
    """The corners without which the next step cannot be chosen; empty at the end."""
    seen: frozenset[Coalition]
    """The corners that the steps were chosen by."""


def walk_path(corners: Corners, *, backwards: bool = False) -> Walk:
    """Change one factor after the other, each time the one that takes the metric furthest towards the other end."""
    here = corners.all if backwards else 0
    towards = -1.0 if (corners.diff < 0) != backwards else 1.0
    left = list(range(len(corners.players)))
    steps: list[tuple[int, float]] = []
    seen = {here}
    while left:
        value = corners.value(here)
        assert value is not None
        found = {player: corners.value(here ^ (1 << player)) for player in left}
        missing = tuple(here ^ (1 << player) for player in left if found[player] is None)
        if missing:
            return Walk(tuple(steps), missing, frozenset(seen))
        seen |= {here ^ (1 << player) for player in left}
        moves = {player: after - value for player, after in found.items() if after is not None}
        best = max(left, key=lambda player: towards * moves[player])
        steps.append((best, moves[best]))
        left.remove(best)
        here ^= 1 << best
    return Walk(tuple(steps), (), frozenset(seen))


def ablation_paths(corners: Corners) -> tuple[tuple[Path, Path], int] | None:
    """The path from A to B and the one from B to A, and how many runs they were chosen by; None if one is missing."""
    paths = []
    seen: set[Coalition] = set()
    for backwards in (False, True):
        walk = walk_path(corners, backwards=backwards)
        if walk.missing:
            return None
        seen |= walk.seen
        start = corners.b if backwards else corners.a
        order = tuple(corners.players[player].param for player, _ in walk.steps)
        paths.append(Path(start.id, order, tuple(move for _, move in walk.steps)))
    return (paths[0], paths[1]), sum(map(corners.replicates, seen))
