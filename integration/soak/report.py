"""What came of it, as a table, as JSON and as a picture."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from integration.soak.lives import MEASURES, Sample
from integration.soak.world import Soak

READS = ("sequential", "small", "random", "mapped", "listed")
COUNTS = (
    "seconds",
    *READS,
    "bytes",
    "wrong",
    "errors_of_faults",
    "errors_of_restarts",
    "unexplained_errors",
    "unknown_names",
    "late_listings",
    "versions",
    "killed_publishers",
    "refused",
    "evictions",
    "fetched_bytes_of_the_long_life",
    "evicted_bytes_of_the_long_life",
)


def figures(soak: Soak) -> dict[str, Any]:
    """All of it, for JSON."""
    short = soak.lives[1]
    return {
        **{name: soak.counts[name] for name in COUNTS},
        "restarts_after_sigkill": short.kills,
        "restarts_after_a_clean_stop": short.stops,
        "retried_mounts": short.retried_starts,
        "faults": soak.weather.met,
        "growth": [asdict(each) | {"share": each.share, "is_leak": each.is_leak} for each in soak.growths()],
        "violations": soak.violations,
        "explained": soak.explained,
        "samples": [asdict(each) for each in soak.lives[0].samples],
    }


def table(found: dict[str, Any]) -> str:
    """For people, and for docs/reliability.md."""
    rows = [("", "")]
    rows += [(_said(name), _number(name, value)) for name, value in found.items() if isinstance(value, int)]
    rows += [(f"requests hit: {name}", f"{value:,}") for name, value in found["faults"].items() if value]
    lines = [f"| {name} | {value} |" for name, value in rows]
    lines.insert(1, "| --- | ---: |")
    if found["growth"]:
        lines += [
            "",
            "| the long life | first third | last third | change | peak |",
            "| --- | ---: | ---: | ---: | ---: |",
        ]
    for each in found["growth"]:
        name = each["measure"]
        values = [_number(name, each[part]) for part in ("first", "last")]
        lines.append(f"| {_said(name)} | {' | '.join(values)} | {each['share']:+.1%} | {_number(name, each['peak'])} |")
    return "\n".join(lines)


def _said(name: str) -> str:
    return name.removesuffix("_bytes").replace("_bytes_", " ").replace("_", " ")


def _number(name: str, value: float) -> str:
    return f"{value / 1e6:,.1f} MB" if "bytes" in name else f"{value:,.0f}"


def plot(samples: list[Sample], restarted: list[Sample], path: Path) -> None:
    """Memory, descriptors and threads over time, of both mounts, as a PNG."""
    # Only who wants a picture needs what draws it.
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(MEASURES), 1, sharex=True, figsize=(10, 13), constrained_layout=True)
    for axis, measure in zip(axes, MEASURES, strict=True):
        scale = 1e6 if measure.endswith("_bytes") else 1
        for name, of, style in (("restarted", restarted, "0.75"), ("the long life", samples, "C0")):
            values = [getattr(each, measure) / scale for each in of]
            axis.plot([each.at_s / 60 for each in of], values, color=style, label=name, linewidth=1)
        axis.set_ylim(bottom=0)
        axis.set_ylabel(_said(measure) + (" (MB)" if scale > 1 else ""))
        axis.grid(alpha=0.3)
    axes[0].legend(loc="lower right")
    axes[-1].set_xlabel("minutes")
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
