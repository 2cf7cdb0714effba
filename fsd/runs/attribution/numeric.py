"""Loads what computes with numpy, and what asks Optuna: neither is needed before, or by who installs neither."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from types import ModuleType

from fsd.errors import UsageError
from fsd.runs.attribution.aliases import FactorGroup
from fsd.runs.attribution.reports import Model
from fsd.runs.attribution.trials import Trial, Value

_EXTRAS = {"numpy": "exp", "optuna": "optuna"}


def fit_model(
    trials: Sequence[Trial],
    metric: str,
    groups: Sequence[FactorGroup],
    *,
    seed: int,
    between: tuple[Mapping[str, Value], Mapping[str, Value]] | None = None,
) -> Model | None:
    """As `surrogate.fit_model`. Raises UsageError where numpy is not installed."""
    model: Model | None = _load("surrogate").fit_model(trials, metric, groups, seed=seed, between=between)
    return model


def ped_anova(
    trials: Sequence[Trial], metric: str, groups: Sequence[FactorGroup], *, maximize: bool
) -> dict[str, float]:
    """As `crosscheck.ped_anova`. Raises UsageError where Optuna is not installed."""
    shares: dict[str, float] = _load("crosscheck").ped_anova(trials, metric, groups, maximize=maximize)
    return shares


def has_optuna() -> bool:
    """Whether Optuna is installed."""
    return importlib.util.find_spec("optuna") is not None


def _load(module: str) -> ModuleType:
    try:
        return importlib.import_module(f"fsd.runs.attribution.{module}")
    except ModuleNotFoundError as error:
        library = str(error.name).split(".")[0]
        if library not in _EXTRAS:
            raise
        raise UsageError(
            f"this takes {library}, which is not installed", hint=f"pip install 'fsd[{_EXTRAS[library]}]'"
        ) from None
