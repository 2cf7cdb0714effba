"""Logs of runs for tests, in few words."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping

from fsd.runs.attribution.trials import Role, Trial, Value

METRIC = "acc"
ROLES = {
    "seed": Role.SEED,
    "code": Role.CODE,
    "data": Role.DATA,
    "subset": Role.SUBSET,
    "definition": Role.DEFINITION,
}


def run(number: int | str, acc: float | None, *, parent: int | str | None = None, **factors: Value) -> Trial:
    """A run of the factors, which have the roles that their names say; `__` in a name is a dot."""
    named = {name.replace("__", "."): value for name, value in factors.items()}
    return Trial(
        id=str(number),
        parent=None if parent is None else str(parent),
        time=float(number) if isinstance(number, int) else 0.0,
        factors=named,
        metrics={} if acc is None else {METRIC: acc},
        roles={name: ROLES[name] for name in named if name in ROLES},
    )


def random_log(
    n: int, response: Callable[[Mapping[str, Value]], float], *, seed: int, noise: float = 1.0
) -> list[Trial]:
    """A random search over a learning rate, a dropout, an optimizer and a switch."""
    chance = random.Random(seed)
    log = []
    for number in range(n):
        factors: dict[str, Value] = {
            "lr": 10 ** chance.uniform(-5, -1),
            "dropout": chance.uniform(0, 0.5),
            "opt": chance.choice(("adam", "rms", "sgd")),
            "warm": chance.random() < 0.5,
        }
        log.append(run(number, response(factors) + chance.gauss(0, noise), **factors))
    return log


def of_numbers(value: Value) -> float:
    """A factor that is known to be a number."""
    assert isinstance(value, int | float)
    return float(value)


def ids(trials: Iterable[Trial]) -> list[str]:
    """What the trials are called."""
    return [trial.id for trial in trials]
