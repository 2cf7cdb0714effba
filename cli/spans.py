"""Lengths of time as options take them."""

from __future__ import annotations

from typing import Any

import click

from fsd_cli.text import parse_duration


class _Span(click.ParamType[float]):
    """A length of time in seconds, given as 90d, 12h, 30m or 20s."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds. Fails for anything else."""
        if isinstance(value, float):
            return value
        try:
            return parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


SPAN = _Span()
