"""fsd: every version of every dataset and model is a directory.

The public Python API, cheap to import anywhere. To read data takes no API where there is a mount: it is files in
directories. `open_store` is for where there is none.
"""

import importlib
from typing import Any

__all__ = ["BUFFER_BYTES", "Shuffled", "log_metric", "log_params", "open_store", "shuffled"]

_LAZY = {
    "BUFFER_BYTES": "fsd.shuffle",
    "Shuffled": "fsd.shuffle",
    "log_metric": "fsd.runs.reporting",
    "log_params": "fsd.runs.reporting",
    "open_store": "fsd.client.opening",
    "shuffled": "fsd.shuffle",
}
"""What is loaded when it is first asked for, and where from: each module of fsd, and so every start of `fsd`, imports
this one, and should not pay for what it does not use."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(_LAZY[name]), name)
    return found
