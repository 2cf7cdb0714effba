"""Which way a metric is good."""

from __future__ import annotations

import pytest

from fsd.runs.direction import is_minimised


@pytest.mark.parametrize(
    "name",
    ["loss", "val_loss", "train.loss", "valLoss", "RMSE", "test/mae", "top1_error", "perplexity", "WER", "logloss"],
)
def test_less_is_better(name: str) -> None:
    assert is_minimised(name)


@pytest.mark.parametrize("name", ["accuracy", "acc", "f1", "mAP", "r2", "AUC", "glossary_hits", "reward", "errorless"])
def test_more_is_better(name: str) -> None:
    assert not is_minimised(name)
