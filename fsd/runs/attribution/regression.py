"""The arithmetic of a linear model of few runs: what it predicts, what of it may be chance, how sure its effects are.

Needs numpy. Everything is deterministic for a seed, and for the order of the rows. In all of it `x` are the
standardised columns (one row a run), and `y` is the metric less its mean.

Two fits of the same columns: *ridge*, its penalty chosen by leaving one run out, predicts, and shares are taken of it;
*least squares* gives effects, since ridge's are drawn towards 0 and their intervals with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fsd.runs.attribution.encoding import RANK_TOLERANCE, Floats, Whole
from fsd.runs.attribution.shapley import Coalition, sampled_shapley_values, shapley_values
from fsd.runs.attribution.thresholds import CONFIDENCE, EXACT_PLAYERS, SAMPLED_ORDERS

PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Of ridge, for each run: a coefficient that stands alone is divided by 1 plus so much."""


@dataclass(frozen=True)
class Prediction:
    """How well a model predicts a run that it has not seen."""

    penalty: float
    """Of ridge, in all: the one that predicts best."""
    loo_r2: float
    """The part of the variance that is predicted of runs left out; 0 or less if their mean does as well."""
    p: float
    """The chance of so high a `loo_r2` where the metric has nothing to do with the factors."""


def predict(x: Floats, y: Floats, shuffles: Whole) -> Prediction:
    """Choose the penalty. `shuffles` are rows 0 to n-1 in other orders, a column each.

    Shuffled metrics choose the penalty anew each time, so that what is gained by choosing is in `p`.
    """
    trials = np.column_stack([y, y[shuffles]])
    scores = np.array([_loo_r2(x, trials, penalty * len(y)) for penalty in PENALTIES])
    best = scores.max(axis=0)
    return Prediction(
        penalty=PENALTIES[int(scores[:, 0].argmax())] * len(y), loo_r2=float(best[0]), p=_share_as_high(best)
    )


def _loo_r2(x: Floats, ys: Floats, penalty: float) -> Floats:
    """For each column of `ys`: from the closed form of leaving one out, the intercept fitted anew each time."""
    n = len(ys)
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    shrunk = s**2 / (s**2 + penalty)
    leverage = 1 / n + (u**2) @ shrunk
    left = (ys - u @ (shrunk[:, None] * (u.T @ ys))) / (1 - leverage)[:, None]
    unpredicted = ((ys * n / (n - 1)) ** 2).sum(axis=0)
    score: Floats = 1 - (left**2).sum(axis=0) / np.where(unpredicted > 0, unpredicted, np.inf)
    return score


def _share_as_high(scores: Floats) -> float:
    """Of the first score, among all of them."""
    return float((scores >= scores[0] * (1 - 1e-12)).mean())


def lmg(x: Floats, y: Floats, blocks: Sequence[slice], penalty: float, *, seed: int) -> tuple[list[float], float]:
    """Each block's share of the variance, and R²: the shares are Shapley values of R², so they sum to it.

    R² is that of ridge as ridge counts, the penalty being part of what is not explained. So no block takes from it.
    """
    gram, moments = x.T @ x, x.T @ y
    total = float(y @ y)
    columns = [np.arange(block.start, block.stop) for block in blocks]

    def worth(coalition: Coalition) -> float:
        inside = [columns[number] for number in range(len(blocks)) if coalition >> number & 1]
        if not inside or not total:
            return 0.0
        at = np.concatenate(inside)
        part = gram[np.ix_(at, at)] + penalty * np.eye(len(at))
        return float(moments[at] @ np.linalg.solve(part, moments[at])) / total

    everything = worth((1 << len(blocks)) - 1)
    if len(blocks) <= EXACT_PLAYERS:
        return shapley_values(len(blocks), worth), everything
    return sampled_shapley_values(len(blocks), worth, orders=SAMPLED_ORDERS, seed=seed), everything


class LeastSquares:
    """A fit by least squares; of columns that say the same, the shortest."""

    def __init__(self, x: Floats, y: Floats) -> None:
        self.x, self.y = x, y
        self.basis, self._inverse = _decompose(x)
        self.degrees = len(y) - 1 - self.basis.shape[1]
        """Of freedom, of what the fit leaves; at least 1."""
        self.coefficients: Floats = self._inverse @ y
        self.fitted: Floats = self.basis @ (self.basis.T @ y)

    def p_of_block(self, block: slice, shuffles: Whole) -> float:
        """The chance that a block without any effect explains as much beside the others: what the others leave is
        shuffled, and put back on top of what they explain (Freedman and Lane 1983)."""
        others, _ = _decompose(np.delete(self.x, block, axis=1))
        explained = others @ (others.T @ self.y)
        left = self.y - explained
        ys = explained[:, None] + np.column_stack([left, left[shuffles]])
        ys -= ys.mean(axis=0)
        by_others = ((others.T @ ys) ** 2).sum(axis=0)
        by_all = ((self.basis.T @ ys) ** 2).sum(axis=0)
        unexplained = np.maximum((ys**2).sum(axis=0) - by_all, 1e-300)
        return _share_as_high((by_all - by_others) / unexplained)

    def intervals(self, contrasts: Sequence[Floats], draws: Whole, at_once: Sequence[int]) -> list[tuple[float, float]]:
        """The interval of confidence of each contrast of the coefficients.

        A studentised bootstrap of residuals: each `draws` column of rows gives a metric anew, and how far its contrast
        is off, in standard errors of its own, is how far ours may be. An interval that holds for `at_once` contrasts
        together is wider.
        """
        leverage = 1 / len(self.y) + (self.basis**2).sum(axis=1)
        left = (self.y - self.fitted) / np.sqrt(np.maximum(1 - leverage, 1e-6))
        left -= left.mean()
        ys = self.fitted[:, None] + left[draws]
        ys -= ys.mean(axis=0)
        projected = self.basis.T @ ys
        errors = np.sqrt(np.maximum((ys**2).sum(axis=0) - (projected**2).sum(axis=0), 1e-300) / self.degrees)
        own_error = np.sqrt(float(((self.y - self.fitted) ** 2).sum()) / self.degrees)
        ends = []
        for contrast, together in zip(contrasts, at_once, strict=True):
            effect = float(contrast @ self.coefficients)
            off = (contrast @ (self._inverse @ ys) - effect) / errors
            tail = (1 - CONFIDENCE) / 2 / together
            low, high = np.quantile(off, [1 - tail, tail]) * own_error
            ends.append((float(effect - low), float(effect - high)))
        return ends


def _decompose(x: Floats) -> tuple[Floats, Floats]:
    """An orthonormal basis of what the columns span, and their pseudo-inverse."""
    if not x.shape[1]:
        return np.zeros((len(x), 0)), np.zeros((0, len(x)))
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    kept = s > RANK_TOLERANCE * max(s[0], 1e-300)
    u, s, vt = u[:, kept], s[kept], vt[kept]
    return u, (vt.T / s) @ u.T
