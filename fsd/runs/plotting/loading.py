"""Loads what draws: matplotlib is not needed before, or by who installs it not."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from fsd.errors import UsageError
from fsd.runs.plotting.story import Story


def draw(story: Story) -> Mapping[str, bytes]:
    """As `figures.draw`. Raises UsageError where matplotlib is not installed."""
    try:
        figures = importlib.import_module("fsd.runs.plotting.figures")
    except ModuleNotFoundError as error:
        if str(error.name).split(".")[0] != "matplotlib":
            raise
        raise UsageError("pictures take matplotlib, which is not installed", hint="pip install 'fsd[plot]'") from None
    pictures: Mapping[str, bytes] = figures.draw(story)
    return pictures
