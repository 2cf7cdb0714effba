"""Every number that decides what is said: named here, the reason beside it. docs/attribution.md has the simulations."""

from __future__ import annotations

EVIDENCE_P = 0.05
"""A report ranks only if chance gives as much in at most so many of all logs, and an effect is evident only then."""

CONFIDENCE = 0.95
"""Of the intervals."""

REGRESSION_RUNS = 10
"""With fewer runs there are matched pairs only."""

SPARE_RUNS = 5
"""A regression wants more runs than its columns and so many more: five degrees of freedom to know chance by. With
three, half of the intervals of what was found did not hold."""

BEND_RUNS_PER_COLUMN = 3
BEND_VALUES = 4
"""A number gets a second column, for a best value within the range, where there are then at least so many runs for each
column of the regression, and so many values of it. Bends take a little power from straight effects; without them, a
best value within the range is not seen at all."""

PERMUTATIONS = 999
BOOTSTRAPS = 999
"""The least p is 1 in 1,000; an interval's ends are the 25th of either side."""

PAIRED_LEVELS = 8
"""So many of a factor's levels, the most frequent, are paired with each other: 28 pairs. Each one more asks more of
every p."""

EXACT_PLAYERS = 10
"""Shares of more params than this are means over `SAMPLED_ORDERS` orders rather than over all: 2^10 small fits."""

SAMPLED_ORDERS = 512

SHAPLEY_RUNS_PLAYERS = 4
"""Runs for every mixture of two runs are planned up to so many params: 14 runs. Above it, ablation: k(k+1)/2-1 runs in
each direction."""

CORNER_PLAYERS = 12
"""The log is searched for every mixture of two runs up to so many params: 4,096 mixtures."""

CROSS_CHECK_RUNS = 50
"""From here on Optuna's PED-ANOVA is worth asking: it looks at the best tenth, and wants five runs in it."""

IDENTIFIER_RUNS = 6
"""A param with another text in each of so many runs is a name and no setting; of fewer, it may be what is tried."""

ALIAS_CORRELATION = 0.98
"""Numbers that are correlated so closely are one param under two names."""

LOG_RATIO = 4.0
LOG_RATIO_OF_TWO = 10.0
"""A param is taken for logarithmic only if its largest value is so many times its smallest; of two values there is no
more to see than that."""
