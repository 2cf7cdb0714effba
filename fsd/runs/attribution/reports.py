"""What all reports are made of, and how any of them becomes JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from fsd.runs.attribution.thresholds import EVIDENCE_P
from fsd.runs.attribution.trials import Change, Value


class Method(StrEnum):
    """How an effect was found, the surest first."""

    DIRECT = "direct"
    """The difference of two runs that differ in this alone."""
    SHAPLEY = "shapley"
    """The mean change over all orders of going from one run to the other, each mixture of the two having been run."""
    ABLATION = "ablation"
    """The mean change over two orders, one from either end, each step having been run."""
    PAIRS = "matched pairs"
    """Between runs that differ in this alone, over the whole log."""
    REGRESSION = "regression"
    """A linear model of all comparable runs."""
    ESTIMATED = "estimated shapley"
    """That model asked for the mixtures of two runs."""


class Outcome(StrEnum):
    """Whether a report has an answer."""

    FOUND = "found"
    NOT_ENOUGH_EVIDENCE = "not enough evidence"
    NOTHING_DIFFERS = "nothing differs"
    """Two runs differ in nothing but a seed: what differs in the metric is chance."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What a param, or a group of params that always change together, does to the metric."""

    param: str
    effect: float
    """Signed: the metric's change per `unit`."""
    unit: str
    """`per 1` or `per doubling` of a number, `a → b` for anything else."""
    share: float | None
    """Over a log: the part of the metric's variance. Between two runs: the part of their difference, which is negative
    for what worked against it. None where the method has no such thing."""
    ci_low: float | None
    ci_high: float | None
    """An interval of 95 % confidence around `effect`; None where there is nothing to tell chance by."""
    p: float | None
    """The chance of as much without any effect. Over a log, it is corrected for the number of params (Holm)."""
    n_pairs: int | None
    """Pairs of runs that differ in this alone."""
    method: Method
    aliased_with: tuple[str, ...] = ()
    """Params that always changed together with it: the effect may be any one's of them."""


def is_evident(effect: Effect) -> bool:
    """Whether it can be told from chance."""
    return effect.p is not None and effect.p <= EVIDENCE_P


@dataclass(frozen=True, slots=True)
class Model:
    """What a linear model of all comparable runs says."""

    columns: int
    """Directions in which the factors vary."""
    loo_r2: float
    p: float
    r2: float
    """As in `Importance`."""
    effects: tuple[Effect, ...]
    """One for each group of factors, by name; their shares sum to `r2`."""
    between: tuple[Effect, ...]
    """What each group adds from one configuration to another, where two were given."""

    @property
    def predicts(self) -> bool:
        """It predicts runs it has not seen better than their mean does, and chance seldom gives as much."""
        return self.loo_r2 > 0 and self.p <= EVIDENCE_P

    @property
    def has_evidence(self) -> bool:
        """It predicts, and by a factor that can be told from chance by itself: where none can, the first of a ranking
        is the right one as often as not."""
        return self.predicts and any(is_evident(effect) for effect in self.effects)


def leaf(change: Change) -> dict[str, Value]:
    """A change as a diff of runs shows it in JSON: `old`, `new`, and for numbers `diff`."""
    found: dict[str, Value] = {"old": change.old, "new": change.new}
    if change.diff is not None:
        found["diff"] = change.diff
    return found


def as_json(report: Any) -> Any:
    """A report, or anything in one, as JSON has it: a `Change` as its leaf under its name; no NaN, no infinity.

    Tuples become lists and names of methods strings. Raises TypeError for what no report holds.
    """
    if report is None or isinstance(report, bool | int):
        return report
    if isinstance(report, str):
        return str(report)
    if isinstance(report, float):
        return report if math.isfinite(report) else None
    if isinstance(report, Change):
        return {"param": report.param, "role": str(report.role), **as_json(leaf(report))}
    if dataclasses.is_dataclass(report):
        return {field.name: as_json(getattr(report, field.name)) for field in dataclasses.fields(report)}
    if isinstance(report, Mapping):
        return {str(name): as_json(value) for name, value in report.items()}
    if isinstance(report, Sequence):
        return [as_json(value) for value in report]
    raise TypeError(f"{type(report).__name__} in a report")
