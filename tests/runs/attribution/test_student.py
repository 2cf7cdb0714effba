"""Student's t, against printed tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsd.runs.attribution.student import quantile, two_sided_p


@pytest.mark.parametrize(
    ("confidence", "degrees", "t"),
    [
        (0.95, 1, 12.7062),
        (0.95, 2, 4.3027),
        (0.95, 5, 2.5706),
        (0.95, 30, 2.0423),
        (0.99, 10, 3.1693),
        (0.9, 3, 2.3534),
    ],
)
def test_quantiles_are_those_of_the_tables(confidence: float, degrees: int, t: float) -> None:
    assert quantile(confidence, degrees) == pytest.approx(t, abs=1e-4)


@given(st.floats(0.5, 0.999), st.integers(1, 500))
def test_p_is_the_inverse_of_the_quantile(confidence: float, degrees: int) -> None:
    assert two_sided_p(quantile(confidence, degrees), degrees) == pytest.approx(1 - confidence, rel=1e-6)


def test_no_effect_is_certain_and_an_infinite_one_impossible() -> None:
    assert two_sided_p(0.0, 3) == 1.0
    assert two_sided_p(float("inf"), 3) == two_sided_p(float("-inf"), 3) == 0.0
