"""The axioms that name the Shapley value, and values computed by hand."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsd.runs.attribution.shapley import sampled_shapley_values, shapley_values, shapley_weights

worths = st.floats(-1e3, 1e3)


@st.composite
def games(draw: st.DrawFn) -> tuple[int, list[float]]:
    players = draw(st.integers(1, 5))
    return players, draw(st.lists(worths, min_size=1 << players, max_size=1 << players))


def by_definition(players: int, worth: list[float]) -> list[float]:
    """The mean over all orders, one after the other."""
    orders = list(permutations(range(players)))
    values = [0.0] * players
    for order in orders:
        coalition = 0
        for player in order:
            values[player] += (worth[coalition | 1 << player] - worth[coalition]) / len(orders)
            coalition |= 1 << player
    return values


@given(games())
def test_it_is_the_mean_over_all_orders(game: tuple[int, list[float]]) -> None:
    players, worth = game
    assert shapley_values(players, worth.__getitem__) == pytest.approx(by_definition(players, worth), abs=1e-8)


@given(games())
def test_efficiency(game: tuple[int, list[float]]) -> None:
    players, worth = game
    assert sum(shapley_values(players, worth.__getitem__)) == pytest.approx(worth[-1] - worth[0], abs=1e-8)
    sampled = sampled_shapley_values(players, worth.__getitem__, orders=6, seed=1)
    assert sum(sampled) == pytest.approx(worth[-1] - worth[0], abs=1e-8)


@given(games(), st.data())
def test_symmetry(game: tuple[int, list[float]], data: st.DataObject) -> None:
    players, worth = game
    new = data.draw(st.permutations(range(players)))

    def renamed(coalition: int) -> float:
        return worth[sum(1 << player for player in range(players) if coalition >> new[player] & 1)]

    values = shapley_values(players, worth.__getitem__)
    again = shapley_values(players, renamed)
    assert [again[new[player]] for player in range(players)] == pytest.approx(values, abs=1e-8)


@given(games(), worths)
def test_a_dummy_gets_what_it_brings(game: tuple[int, list[float]], brings: float) -> None:
    players, worth = game
    dummy = 1 << players

    def larger(coalition: int) -> float:
        return worth[coalition & ~dummy] + (brings if coalition & dummy else 0.0)

    values = shapley_values(players + 1, larger)
    assert values[-1] == pytest.approx(brings, abs=1e-8)
    assert values[:-1] == pytest.approx(shapley_values(players, worth.__getitem__), abs=1e-8)


@given(games(), games())
def test_additivity(one: tuple[int, list[float]], two: tuple[int, list[float]]) -> None:
    players = min(one[0], two[0])
    both = shapley_values(players, lambda coalition: one[1][coalition] + two[1][coalition])
    first, second = (shapley_values(players, game[1].__getitem__) for game in (one, two))
    assert both == pytest.approx([a + b for a, b in zip(first, second, strict=True)], abs=1e-8)


def test_three_musicians() -> None:
    # Alone 10, 0 and 0; the first with either 20; all three 36; the others together 2.
    worth = {0: 0, 1: 10, 2: 0, 4: 0, 3: 20, 5: 20, 6: 2, 7: 36}
    assert shapley_values(3, lambda coalition: float(worth[coalition])) == pytest.approx([64 / 3, 22 / 3, 22 / 3])


def test_weights_of_two() -> None:
    assert shapley_weights(2, 0) == [-0.5, 0.5, -0.5, 0.5]
    assert shapley_weights(1, 0) == [-1.0, 1.0]


def test_sampling_finds_the_mean_and_is_the_same_again() -> None:
    def worth(coalition: int) -> float:
        return float(coalition.bit_count() ** 3 * (1 + (coalition & 1)))

    exact = shapley_values(6, worth)
    sampled = sampled_shapley_values(6, worth, orders=400, seed=3)
    assert sampled == pytest.approx(exact, rel=0.2)
    assert sampled == sampled_shapley_values(6, worth, orders=400, seed=3)
    assert sampled != sampled_shapley_values(6, worth, orders=400, seed=4)
