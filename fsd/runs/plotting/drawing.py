"""What the figures have in common: colours, texts that fit, axes without clutter. Knows matplotlib, and no runs."""

from __future__ import annotations

import io
import unicodedata
import warnings
from collections.abc import Iterable

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# The colours of Okabe and Ito, which people tell apart whatever colours they see.
BLUE = "#0072B2"
VERMILION = "#D55E00"
GREEN = "#009E73"
ORANGE = "#E69F00"
PURPLE = "#CC79A7"
SKY = "#56B4E9"
SERIES = (BLUE, ORANGE, GREEN, PURPLE, SKY)
GREY = "#8a8a8a"
FAINT = "#c9c9c9"
INK = "#222222"

MAP = "cividis"
"""A scale of colours that is even in lightness, and the same for everybody."""

WIDTH_INCHES = 10.0
DPI = 160
SMALL = 8.0
"""Points."""


def new_figure(height_inches: float) -> Figure:
    """A figure as wide as all of them."""
    figure = Figure(figsize=(WIDTH_INCHES, height_inches), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def png_of(figure: Figure) -> bytes:
    """The picture."""
    data = io.BytesIO()
    with warnings.catch_warnings():
        # A name may have letters that the font has not: a box stands for each.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(data, format="png", dpi=DPI)
    return data.getvalue()


def plain(text: str, characters: int) -> str:
    """A text on one line, cut in its middle where it is longer, with nothing in it that matplotlib takes for a
    formula."""
    shown = "".join(each if each.isprintable() else "·" for each in unicodedata.normalize("NFC", text))
    if len(shown) > characters:
        left = (characters - 1 + 1) // 2
        shown = shown[:left] + "…" + shown[len(shown) - (characters - 1 - left) :]
    return shown.replace("$", r"\$")


def clean(axes: Axes, *, grid: str = "") -> None:
    """Only the lines that mean something. `grid` is `x`, `y` or `both`."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=SMALL, length=3, color=FAINT)
    axes.set_axisbelow(True)
    if grid == "x":
        axes.xaxis.grid(visible=True, color="#eeeeee")
    elif grid == "y":
        axes.yaxis.grid(visible=True, color="#eeeeee")
    elif grid:
        axes.grid(visible=True, color="#eeeeee")


def say_instead(axes: Axes, text: str) -> None:
    """A sentence where there is nothing to draw."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=11, color=GREY, transform=axes.transAxes)


def padded(values: Iterable[float], share: float = 0.05) -> tuple[float, float]:
    """Limits with a margin around values."""
    low, high = min(values := list(values)), max(values)
    margin = (high - low) * share or abs(high) * share or 1.0
    return low - margin, high + margin
