"""Which way a metric is good: told by whoever asks, or else by its name."""

from __future__ import annotations

import re

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

_NAMES = """
bpb bpc bpd brier bytes cer cost crossentropy distance divergence duration ece entropy epe err error errors failures fdr
fid fnr fpr hausdorff hinge kid kl latency logloss loss losses mae mape memory mse msle nll nmse perplexity ppl regret
residual rmse rmsle seconds size smape ter time wer wmape
"""
_LESS_IS_BETTER = frozenset(_NAMES.split())
"""Words of names, in small letters."""


def is_minimised(metric: str) -> bool:
    """Whether less of a metric is better, as far as its name says: one of its words is `loss`, `error`, `rmse` and the
    like. Whatever says nothing is a score, of which more is better."""
    return any(word.lower() in _LESS_IS_BETTER for word in _WORDS.findall(metric))
