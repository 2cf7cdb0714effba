"""A time of day that jumps, for programs that are started with it: a library of our own is preloaded.

(A time namespace has clocks of its own for everything but the time of day.)
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest


class Clock:
    """The time of day of the processes that have `environment`. Files get their times from the kernel, unmoved."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            pytest.skip("takes a C compiler")
        library = folder / "clock.so"
        source = Path(__file__).with_name("clock.c")
        subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
        self._offset = folder / "clock"
        self.jump(0)
        self.environment = {"LD_PRELOAD": str(library), "FSD_TEST_CLOCK": str(self._offset)}

    def jump(self, offset_s: int) -> None:
        """So far from the true time, from now on."""
        with self._offset.open("r+b" if self._offset.exists() else "wb") as file:
            file.write(struct.pack("=q", offset_s))
