"""A linear model of all comparable runs: is there anything to be seen, and if so, what each factor does.

Needs numpy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from fsd.runs.attribution.aliases import FactorGroup
from fsd.runs.attribution.encoding import Design, Floats, Whole, encode
from fsd.runs.attribution.pairs import NO_SPREAD, correct
from fsd.runs.attribution.regression import LeastSquares, lmg, predict
from fsd.runs.attribution.reports import Effect, Method, Model
from fsd.runs.attribution.scales import show_level
from fsd.runs.attribution.thresholds import BOOTSTRAPS, PERMUTATIONS, SPARE_RUNS
from fsd.runs.attribution.trials import Trial, Value, factor_names, key, measured


def fit_model(
    trials: Sequence[Trial],
    metric: str,
    groups: Sequence[FactorGroup],
    *,
    seed: int,
    between: tuple[Mapping[str, Value], Mapping[str, Value]] | None = None,
) -> Model | None:
    """Fit it. None where there are too few runs for the columns, or where all runs have one metric.

    `groups` must have been found over these trials in this order; the result does not depend on names and order, except
    where runs are alike. `between`: the factors of two runs, for what each group adds from the first to the second.
    """
    metrics = np.array([measured(trial, metric) for trial in trials])
    design = encode(groups, len(trials))
    if len(trials) <= design.rank + SPARE_RUNS or np.ptp(metrics) <= NO_SPREAD * np.abs(metrics).max():
        return None
    order = _canonical_order(trials, metrics)
    x, y = design.matrix[order], metrics[order] - metrics.mean()
    chance = np.random.default_rng(seed)
    shuffles = np.column_stack([chance.permutation(len(y)) for _ in range(PERMUTATIONS)])
    draws = chance.integers(0, len(y), (len(y), BOOTSTRAPS))
    prediction = predict(x, y, shuffles)
    shares, r2 = lmg(x, y, [block.columns for block in design.blocks], prediction.penalty, seed=seed)
    fit = LeastSquares(x, y)
    effects = _effects(design, shares, fit, shuffles, draws)
    return Model(
        columns=design.rank,
        loo_r2=prediction.loo_r2,
        p=prediction.p,
        r2=r2,
        effects=effects,
        between=_between(design, fit, draws, effects, *between) if between else (),
    )


def _between(
    design: Design,
    fit: LeastSquares,
    draws: Whole,
    effects: Sequence[Effect],
    a: Mapping[str, Value],
    b: Mapping[str, Value],
) -> tuple[Effect, ...]:
    """What each group adds between two configurations: the model has no interactions, so its Shapley values are the
    same in every order. Groups that are alike in both are left out."""
    step = design.row(b) - design.row(a)
    parts = {}
    for number, block in enumerate(design.blocks):
        part = np.zeros(len(step))
        part[block.columns] = step[block.columns]
        if part.any():
            parts[number] = part
    ends = fit.intervals(list(parts.values()), draws, [1] * len(parts))
    found = []
    for (number, part), (low, high) in zip(parts.items(), ends, strict=True):
        moved = float(part @ fit.coefficients)
        lead = effects[number].param
        unit = f"{show_level(a.get(lead))} → {show_level(b.get(lead))}"
        whole = replace(effects[number], effect=moved, unit=unit, ci_low=low, ci_high=high)
        found.append(replace(whole, share=None, method=Method.ESTIMATED))
    return tuple(found)


def _effects(
    design: Design, shares: Sequence[float], fit: LeastSquares, shuffles: Whole, draws: Whole
) -> tuple[Effect, ...]:
    """Each block's, of the unit that does most; where there are several, its interval holds for all at once."""
    contrasts = [weights for block in design.blocks for _, weights in block.contrasts]
    together = [len(block.contrasts) for block in design.blocks for _ in block.contrasts]
    ends = iter(fit.intervals(contrasts, draws, together))
    effects = []
    for block, share in zip(design.blocks, shares, strict=True):
        moved = [(float(weights @ fit.coefficients), unit, next(ends)) for unit, weights in block.contrasts]
        effect, unit, (low, high) = max(moved, key=lambda one: abs(one[0]))
        effects.append(
            Effect(
                param=block.group.lead.name,
                effect=effect,
                unit=unit,
                share=share,
                ci_low=low,
                ci_high=high,
                p=fit.p_of_block(block.columns, shuffles),
                n_pairs=None,
                method=Method.REGRESSION,
                aliased_with=block.group.aliases,
            )
        )
    return correct(effects)


def _canonical_order(trials: Sequence[Trial], metrics: Floats) -> list[int]:
    """By the metric, then by the values without their names."""
    names = factor_names(trials, seeds=True)
    values = [sorted(repr(key(trial.factors.get(name))) for name in names) for trial in trials]
    return sorted(range(len(trials)), key=lambda number: (metrics[number], values[number]))
