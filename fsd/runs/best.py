"""The best of some runs by a metric, and what it did differently."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from fsd.errors import NotFoundError, near_misses
from fsd.runs.attribution.trials import Change, Role, Trial, Value, changes, roles_of, setting
from fsd.runs.direction import is_minimised
from fsd.runs.factors import parent_of


@dataclass(frozen=True, slots=True)
class Compared:
    """The best run beside another one."""

    id: str
    value: float
    diff: float
    """The best one's metric less this one's."""
    changes: tuple[Change, ...]
    """From this one to the best."""


@dataclass(frozen=True, slots=True)
class Best:
    """The best run."""

    metric: str
    minimized: bool
    by_name: bool
    """Whether that follows from the metric's name, and was not said."""
    id: str
    value: float
    n: int
    """Runs that it is the best of."""
    second: Compared | None
    """None if there is no other."""
    parent: Compared | None
    """The run that it was most likely derived from."""
    subsets: Mapping[str, Value]
    """What all of these runs are of; None for the whole."""
    notes: tuple[str, ...]
    """Warnings that have to be shown with the numbers."""


def best_of(
    trials: Sequence[Trial],
    ends: Mapping[str, float],
    metric: str,
    *,
    minimize: bool | None = None,
    across: Set[str] = frozenset(),
) -> Best:
    """The best run by a metric; of equal ones the first. `minimize`: None is to go by its name.

    Runs on different subsets are not compared, unless their factor is in `across`: runs on the whole count where there
    are some, else those of the subset with most runs. Raises NotFoundError if no run has the metric.
    """
    measured = [trial for trial in trials if trial.metric(metric) is not None]
    if not measured:
        raise no_such_metric(trials, metric)
    names = sorted(name for name, role in roles_of(measured).items() if role is Role.SUBSET and name not in across)
    chosen, notes = _on_one_subset(measured, names)
    less = is_minimised(metric) if minimize is None else minimize
    ranked = sorted(chosen, key=lambda trial: (_value(trial, metric) * (1 if less else -1), trial.time))
    best = ranked[0]
    parent = parent_of(best, measured, ends)
    others = [None if other is None else _compared(other, best, metric) for other in (*ranked[1:2], parent)]
    for name in sorted(across & roles_of(chosen).keys()):
        if len({trial.factors.get(name) for trial in chosen}) > 1 and roles_of(chosen)[name] is Role.SUBSET:
            notes = (*notes, f"runs on different subsets are compared: {name} is a factor")
    return Best(
        metric=metric,
        minimized=less,
        by_name=minimize is None,
        id=best.id,
        value=_value(best, metric),
        n=len(ranked),
        second=others[0] if len(ranked) > 1 else None,
        parent=others[-1],
        subsets={name: best.factors.get(name) for name in names},
        notes=notes,
    )


def _on_one_subset(trials: Sequence[Trial], names: Sequence[str]) -> tuple[list[Trial], tuple[str, ...]]:
    """Those that are compared, and what has to be said of the others."""
    groups = Counter(setting(trial, names) for trial in trials)
    whole = setting(Trial("", None, 0, {}, {}), names)
    wanted = whole if whole in groups else groups.most_common(1)[0][0]
    chosen = [trial for trial in trials if setting(trial, names) == wanted]
    left = len(trials) - len(chosen)
    if not left:
        return chosen, ()
    subsets = sorted(
        {
            f"{name} {trial.factors.get(name) or 'the whole'}"
            for trial in trials
            for name in names
            if setting(trial, [name]) != setting(chosen[0], [name])
        }
    )
    runs = "1 run" if left == 1 else f"{left:,} runs"
    return chosen, (f"{runs} on another subset not compared: {', '.join(subsets)}",)


def _compared(other: Trial, best: Trial, metric: str) -> Compared:
    value = _value(other, metric)
    return Compared(other.id, value, _value(best, metric) - value, changes(other, best))


def _value(trial: Trial, metric: str) -> float:
    value = trial.metric(metric)
    assert value is not None
    return value


def no_such_metric(trials: Sequence[Trial], metric: str) -> NotFoundError:
    """What to raise where no run that succeeded has a metric."""
    known = sorted({name for trial in trials for name in trial.metrics})
    if not trials:
        return NotFoundError("there is no run that succeeded", hint="'fsd exp list' shows all that there are")
    hint = near_misses(metric, known) or (f"there are {', '.join(known[:5])}" if known else "")
    return NotFoundError(f"no run that succeeded has the metric {metric!r}", hint=hint)
