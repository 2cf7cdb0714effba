"""Shapley values: what each of several players brings, as the mean over all orders in which they may come."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence

Coalition = int
"""A set of players as a bit mask: player 0 is the lowest bit."""


def shapley_values(players: int, worth: Callable[[Coalition], float]) -> list[float]:
    """Each player's value; they sum to the worth of all less the worth of none.

    `worth` is asked once for each of the 2^players coalitions.
    """
    worths = [worth(coalition) for coalition in range(1 << players)]
    return [
        math.fsum(weight * worths[coalition] for coalition, weight in enumerate(weights))
        for weights in (shapley_weights(players, player) for player in range(players))
    ]


def shapley_weights(players: int, player: int) -> list[float]:
    """By what the worth of each coalition enters the player's value: the coalitions' noise enters it by the same."""
    orders = [
        math.factorial(size) * math.factorial(players - size - 1) / math.factorial(players) for size in range(players)
    ]
    weights = []
    for coalition in range(1 << players):
        if coalition >> player & 1:
            weights.append(orders[coalition.bit_count() - 1])
        else:
            weights.append(-orders[coalition.bit_count()])
    return weights


def sampled_shapley_values(players: int, worth: Callable[[Coalition], float], *, orders: int, seed: int) -> list[float]:
    """The mean over so many random orders, each of them also backwards. Sums to the same, whatever the orders."""
    known: dict[Coalition, float] = {}
    parts: list[list[float]] = [[] for _ in range(players)]
    count = 0
    for order in _random_orders(players, orders, seed):
        count += 1
        coalition = 0
        before = known.setdefault(0, worth(0)) if 0 not in known else known[0]
        for player in order:
            coalition |= 1 << player
            if coalition not in known:
                known[coalition] = worth(coalition)
            parts[player].append(known[coalition] - before)
            before = known[coalition]
    return [math.fsum(part) / count for part in parts]


def _random_orders(players: int, orders: int, seed: int) -> Iterator[Sequence[int]]:
    chance = random.Random(seed)
    for _ in range((orders + 1) // 2):
        order = list(range(players))
        chance.shuffle(order)
        yield order
        yield order[::-1]
