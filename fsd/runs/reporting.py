"""What a program says of its own run: `fsd.log_metric` and `fsd.log_params`.

Lines of JSON, appended to a file that `fsd run` names in the environment. A line is one write, so that several
processes of a run may report at once. Outside of a run nothing happens: the same program runs with and without
`fsd run`.

Imported by people's programs: it imports nothing of fsd.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

REPORT_VARIABLE = "FSD_RUN_REPORT"


def log_metric(name: str, value: float, step: int | None = None) -> None:
    """Say that a metric has a value, of a run or of a step of it. The last value of a name is the run's.

    `value` may be whatever `float()` takes, such as a tensor of one element.
    """
    # As text: JSON has no NaN, and a diverged loss is worth knowing of.
    _append({"metric": str(name), "value": repr(float(value)), **({} if step is None else {"step": int(step)})})


def log_params(params: Mapping[str, Any]) -> None:
    """Say what params the run has beside those in its file; mappings in mappings are flattened with dots."""
    _append({"params": dict(_flat(params, ""))})


def _flat(params: Mapping[str, Any], above: str) -> Iterator[tuple[str, Any]]:
    for name, value in params.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value if _is_scalar(value) else str(value)


def _is_scalar(value: object) -> bool:
    """Whether JSON has it."""
    return value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))


def _append(said: Mapping[str, Any]) -> None:
    path = os.environ.get(REPORT_VARIABLE)
    if not path:
        return
    line = json.dumps(said) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def read_report(lines: Iterable[bytes]) -> tuple[dict[str, float], dict[str, Any]]:
    """The last value of each metric, and all params. What is no line of a report, such as one cut off, is left out."""
    metrics: dict[str, float] = {}
    params: dict[str, Any] = {}
    for line in lines:
        try:
            said = json.loads(line)
            if "metric" in said:
                metrics[str(said["metric"])] = float(said["value"])
            else:
                params.update({name: value for name, value in said["params"].items() if not isinstance(value, dict)})
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return metrics, params
