"""Logs of runs whose truth is known: what somebody may have tried, and what the metric then was."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fsd.runs.attribution.trials import Role, Trial, Value

Settings = dict[str, Value]
Response = Callable[[Mapping[str, Value]], float]
Chance = Callable[[random.Random], float]

BATCHES = (16, 32, 64, 128, 256)
OPTIMIZERS = ("adam", "rmsprop", "sgd")
LR_MIDDLE = math.log2(1e-3)
LR_HALF_RANGE = math.log2(100)


def random_settings(chance: random.Random) -> Settings:
    """Of a random search over five params."""
    return {
        "lr": 10 ** chance.uniform(-5, -1),
        "dropout": chance.uniform(0, 0.5),
        "batch": chance.choice(BATCHES),
        "optimizer": chance.choice(OPTIMIZERS),
        "warmup": chance.random() < 0.5,
    }


def lr_place(settings: Mapping[str, Value]) -> float:
    """From -1 to 1 over the range, by doublings."""
    return (math.log2(float(settings["lr"])) - LR_MIDDLE) / LR_HALF_RANGE  # type: ignore[arg-type]


def no_response(_: Mapping[str, Value]) -> float:
    """Nothing matters."""
    return 0.0


def one_effect(settings: Mapping[str, Value]) -> float:
    """Dropout, in a straight line: half of the variance beside a noise of 1."""
    return float(settings["dropout"]) * 7  # type: ignore[arg-type]


def log_effect(settings: Mapping[str, Value]) -> float:
    """The learning rate, by doublings: half of the variance."""
    return 1.75 * lr_place(settings)


def several_effects(settings: Mapping[str, Value]) -> float:
    """Learning rate above optimizer above dropout; batch and warmup do nothing."""
    return 2.2 * lr_place(settings) + 1.6 * (settings["optimizer"] == "adam") - 3 * float(settings["dropout"])  # type: ignore[arg-type]


def interaction(settings: Mapping[str, Value]) -> float:
    """The learning rate helps, and more than twice as much with warmup."""
    return (2.6 if settings["warmup"] else 1.0) * lr_place(settings)


def bent(settings: Mapping[str, Value]) -> float:
    """The best learning rate is within the range: no straight line sees it."""
    return -3.4 * lr_place(settings) ** 2


PER_DOUBLING = 1 / LR_HALF_RANGE


@dataclass(frozen=True)
class Scenario:
    """A world of runs."""

    name: str
    response: Response = no_response
    slopes: Mapping[str, float] = field(default_factory=dict)
    """True effects of numbers per unit, as a straight line has them; 0 where nothing is said."""
    levels: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """True metric of each level."""
    matter: tuple[str, ...] = ()
    """The params that have an effect, the greatest first."""
    noise: Chance = lambda chance: chance.gauss(0, 1)
    tied: bool = False
    """Weight decay always follows the learning rate, momentum the optimizer."""
    by_hand: bool = False
    """Each run changes one param of the best run so far, and every fourth repeats that with another seed."""
    digits: int | None = None
    """The metric is rounded to so many."""

    def truth(self, param: str, unit: str) -> float:
        """The true effect as a report gives it."""
        if "→" in unit:
            old, new = unit.split(" → ")
            values = self.levels.get(param, {})
            return values.get(new, 0.0) - values.get(old, 0.0)
        return self.slopes.get(param, 0.0)


ADAM = {"optimizer": {"adam": 1.6}}
SCENARIOS = (
    Scenario("noise only"),
    Scenario("noise only, heavy tails", noise=lambda chance: heavy(chance)),
    Scenario("noise only, tuned by hand", by_hand=True),
    Scenario("noise only, tuned by hand, no digits", by_hand=True, digits=0),
    Scenario("one effect", one_effect, slopes={"dropout": 7.0}, matter=("dropout",)),
    Scenario("log-scaled", log_effect, slopes={"lr": 1.75 * PER_DOUBLING}, matter=("lr",)),
    Scenario(
        "several effects",
        several_effects,
        slopes={"lr": 2.2 * PER_DOUBLING, "dropout": -3.0},
        levels=ADAM,
        matter=("lr", "optimizer", "dropout"),
    ),
    Scenario(
        "several, tuned by hand",
        several_effects,
        slopes={"lr": 2.2 * PER_DOUBLING, "dropout": -3.0},
        levels=ADAM,
        matter=("lr", "optimizer", "dropout"),
        by_hand=True,
    ),
    Scenario(
        "aliased",
        several_effects,
        slopes={"lr": 2.2 * PER_DOUBLING, "weight_decay": 2.2 * PER_DOUBLING, "dropout": -3.0},
        levels={**ADAM, "momentum": {"0.9": 1.6}},
        matter=("lr", "optimizer", "dropout"),
        tied=True,
    ),
    Scenario("interaction", interaction, slopes={"lr": 1.8 * PER_DOUBLING}, matter=("lr",)),
    Scenario("best within the range", bent, matter=("lr",)),
)


def heavy(chance: random.Random) -> float:
    """Student's t with three degrees of freedom: now and then a run goes astray."""
    return chance.gauss(0, 1) / math.sqrt(sum(chance.gauss(0, 1) ** 2 for _ in range(3)) / 3)


def simulate(scenario: Scenario, n: int, seed: int) -> list[Trial]:
    """A log of `n` runs."""
    chance = random.Random(f"{scenario.name} {n} {seed}")
    trials: list[Trial] = []
    best: Trial | None = None
    for number in range(n):
        settings = random_settings(chance)
        if scenario.by_hand and best is not None:
            settings = dict(best.factors) if number % 4 == 3 else change_one(best.factors, settings, chance)
        if scenario.tied:
            settings["weight_decay"] = float(settings["lr"]) / 10  # type: ignore[arg-type]
            settings["momentum"] = 0.9 if settings["optimizer"] == "adam" else None
        settings["seed"] = number
        metric = scenario.response(settings) + scenario.noise(chance)
        if scenario.digits is not None:
            metric = round(metric, scenario.digits)
        trial = Trial(
            id=f"run-{number}",
            parent=best.id if best and scenario.by_hand else None,
            time=float(number),
            factors=settings,
            metrics={"score": metric},
            roles={"seed": Role.SEED},
        )
        trials.append(trial)
        if best is None or metric > best.metrics["score"]:
            best = trial
    return trials


def change_one(settings: Mapping[str, Value], drawn: Settings, chance: random.Random) -> Settings:
    """What somebody tries next: one param of these settings as drawn, a grid's value where it is a number."""
    drawn = {**drawn, "lr": 10.0 ** chance.randint(-5, -1), "dropout": chance.randint(0, 5) / 10}
    name = chance.choice(sorted(drawn))
    return {**settings, name: drawn[name]}
