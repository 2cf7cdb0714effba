"""Matched pairs: runs that differ in one factor, or in one group of factors that always change together, and in
nothing else but a seed. What they differ in in the metric is the effect of that factor, whatever the others do.

All such pairs of a factor are one estimate: within each *stratum* (runs that are equal in all other factors) the metric
is fitted by the factor, with one slope for all strata, which weighs every pair by the square of its distance.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from fsd.runs.attribution import student
from fsd.runs.attribution.aliases import FactorGroup
from fsd.runs.attribution.comparing import Noise
from fsd.runs.attribution.reports import Effect, Method
from fsd.runs.attribution.scales import Scale, show_level
from fsd.runs.attribution.thresholds import CONFIDENCE, PAIRED_LEVELS
from fsd.runs.attribution.trials import Trial, key, measured, setting


@dataclass(frozen=True, slots=True)
class Slope:
    """A fit within strata."""

    slope: float
    spread: float
    """Sum of squares of the places: the variance of the slope is that of a run, divided by it."""
    rss: float
    """What the fit leaves, as a sum of squares."""
    degrees: int
    """Of freedom, of `rss`."""
    n_pairs: int
    reach: float
    """From the lowest to the highest place."""


NO_SPREAD = 1e-9
"""Replicates, or pairs, that agree to the last digit say that the metric is coarse or the seed idle, not that chance
has no part: they are no measure of it. Relative to the effect, because of rounding."""

Stratum = Sequence[tuple[float, float]]
"""Of each run: the factor's place on its scale, and the metric."""


def fit_strata(strata: Iterable[Stratum]) -> Slope | None:
    """One slope for all strata, each with a level of its own. None if no stratum has two places."""
    xx = xy = yy = 0.0
    runs = used = n_pairs = 0
    places: list[float] = []
    for stratum in strata:
        if len({x for x, _ in stratum}) < 2:
            continue
        x_mean = math.fsum(x for x, _ in stratum) / len(stratum)
        y_mean = math.fsum(y for _, y in stratum) / len(stratum)
        xx += math.fsum((x - x_mean) ** 2 for x, _ in stratum)
        yy += math.fsum((y - y_mean) ** 2 for _, y in stratum)
        xy += math.fsum((x - x_mean) * (y - y_mean) for x, y in stratum)
        runs, used = runs + len(stratum), used + 1
        alike = Counter(x for x, _ in stratum)
        n_pairs += math.comb(len(stratum), 2) - sum(math.comb(count, 2) for count in alike.values())
        places += (x for x, _ in stratum)
    if not used:
        return None
    rss = max(0.0, yy - xy * xy / xx)
    return Slope(xy / xx, xx, rss, runs - used - 1, n_pairs, max(places) - min(places))


def matched_pairs(
    trials: Sequence[Trial], metric: str, groups: Sequence[FactorGroup], noise: Noise | None
) -> tuple[Effect, ...]:
    """The effect of each group that has pairs, by name; of levels, one for each two that were paired, of the
    `PAIRED_LEVELS` most frequent.

    Chance is told by replicates, or by how much the pairs disagree with one another: by whichever is known from more
    runs. `p` is corrected for the number of effects (Holm). No effect has a share.
    """
    found: list[Effect] = []
    for group in groups:
        others = [name for one in groups if one is not group for name in one.names]
        strata = defaultdict(list)
        for number, trial in enumerate(trials):
            strata[setting(trial, others)].append(number)
        metrics = [measured(trial, metric) for trial in trials]
        found += _effects(group, list(strata.values()), metrics, noise)
    return correct(found)


def _effects(
    group: FactorGroup, strata: Sequence[Sequence[int]], metrics: Sequence[float], noise: Noise | None
) -> list[Effect]:
    lead = group.lead
    found: list[Effect] = []
    if lead.scale is not Scale.LEVELS:
        positions = lead.positions
        fit = fit_strata([(x, metrics[i]) for i in stratum if (x := positions[i]) is not None] for stratum in strata)
        return [_effect(group, lead.unit, fit, noise)] if fit else []
    for old, new in combinations(lead.levels[:PAIRED_LEVELS], 2):
        places = {key(old): 0.0, key(new): 1.0}
        fit = fit_strata(
            [(places[one], metrics[i]) for i in stratum if (one := key(lead.values[i])) in places] for stratum in strata
        )
        if fit:
            found.append(_effect(group, f"{show_level(old)} → {show_level(new)}", fit, noise))
    return found


def _effect(group: FactorGroup, unit: str, fit: Slope, noise: Noise | None) -> Effect:
    ci_low = ci_high = p = None
    known = noise
    if fit.degrees > (noise.degrees if noise else 0):
        known = Noise(math.sqrt(fit.rss / fit.degrees), fit.degrees)
    if known is not None and known.sd > NO_SPREAD * max(abs(fit.slope) * fit.reach, 1e-300):
        ci_low, ci_high, p = interval(fit.slope, known.sd / math.sqrt(fit.spread), known.degrees)
    return Effect(
        param=group.lead.name,
        effect=fit.slope,
        unit=unit,
        share=None,
        ci_low=ci_low,
        ci_high=ci_high,
        p=p,
        n_pairs=fit.n_pairs,
        method=Method.PAIRS,
        aliased_with=group.aliases,
    )


def interval(effect: float, sd: float, degrees: int) -> tuple[float, float, float]:
    """The ends of the interval of confidence, and p, of an effect with this standard error."""
    reach = student.quantile(CONFIDENCE, degrees) * sd
    t = effect / sd if sd else math.copysign(math.inf, effect) if effect else 0.0
    return effect - reach, effect + reach, student.two_sided_p(t, degrees)


def correct(effects: Sequence[Effect]) -> tuple[Effect, ...]:
    """The same effects, their p corrected for how many there are (Holm): the chance that any of them is as small."""
    corrected: dict[int, float] = {}
    known = sorted((effect.p, number) for number, effect in enumerate(effects) if effect.p is not None)
    highest = 0.0
    for rank, (p, number) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - rank)))
        corrected[number] = highest
    return tuple(replace(effect, p=corrected.get(number)) for number, effect in enumerate(effects))
