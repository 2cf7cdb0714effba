"""In what surroundings a command runs: the program, Python and its packages, the machine, its GPUs.

Of the environment variables only those in `TOLD_VARIABLES` are told of: all others may hold secrets.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blake3 import blake3

TOLD_VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "CUBLAS_WORKSPACE_CONFIG",
    "LANG",
    "LC_ALL",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "PYTHONHASHSEED",
    "TZ",
    "WORLD_SIZE",
)

_PYTHON = re.compile(r"(python|pypy)[0-9.]*\Z")
_ASK_TIMEOUT_S = 10.0
_SHEBANG_BYTES = 512
_NVIDIA = Path("/proc/driver/nvidia")

_QUESTION = """
import json, os, platform, sys
found = {}
for folder in sys.path:
    try:
        names = os.listdir(folder or ".")
    except OSError:
        continue
    for name in names:
        if name.endswith((".dist-info", ".egg-info")):
            package, _, version = name.rpartition(".")[0].partition("-")
            found.setdefault(package.lower().replace("_", "-"), version.partition("-py")[0])
print(json.dumps({"version": platform.python_version(), "packages": found}))
"""
"""Names of folders alone: reading what is in them takes ten times as long."""


def describe(program: str, variables: Mapping[str, str], directory: Path) -> dict[str, Any]:
    """What a record says of the surroundings of `program`, a file. Blocks: a Python is asked, for 0.1 s."""
    interpreter = _python_of(program)
    return {
        "program": {"path": program, "blake3": _content(program)},
        "python": None if interpreter is None else _ask(interpreter, variables, directory),
        "machine": {
            "host": platform.node(),
            "system": platform.system(),
            "release": platform.release(),
            "architecture": platform.machine(),
            "processors": os.cpu_count(),
            "gpus": _gpus(),
            "driver": _driver(),
        },
        "variables": {name: variables[name] for name in TOLD_VARIABLES if name in variables},
    }


def find_program(name: str, variables: Mapping[str, str], directory: Path) -> str | None:
    """The file that a command's first word means; None if there is none that could be run."""
    if "/" in name:
        return shutil.which(os.path.join(directory, name))
    return shutil.which(name, path=variables.get("PATH"))


def _content(program: str) -> str | None:
    try:
        return blake3().update_mmap(program).hexdigest()
    except OSError:
        return None


def _python_of(program: str) -> str | None:
    """The Python that a program is, or that its first line names."""
    if _PYTHON.match(os.path.basename(program)):
        return program
    try:
        with open(program, "rb") as file:
            first = file.read(_SHEBANG_BYTES).partition(b"\n")[0]
    except OSError:
        return None
    words = os.fsdecode(first.removeprefix(b"#!")).split() if first.startswith(b"#!") else []
    if words and os.path.basename(words[0]) == "env":
        words = [found for word in words[1:] if not word.startswith("-") and (found := shutil.which(word))]
    return words[0] if words and _PYTHON.match(os.path.basename(words[0])) else None


def _ask(interpreter: str, variables: Mapping[str, str], directory: Path) -> dict[str, Any] | None:
    """Its version and packages, as the command would find them."""
    try:
        done = subprocess.run(
            [interpreter, "-c", _QUESTION],
            env=dict(variables),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_ASK_TIMEOUT_S,
            check=True,
        )
        answer = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return {"path": interpreter, **answer}


def _gpus() -> list[str]:
    """Their models, as NVIDIA's driver has them."""
    found = []
    for path in sorted(_NVIDIA.glob("gpus/*/information")):
        for line in _read(path).splitlines():
            name, _, value = line.partition(":")
            if name == "Model":
                found.append(value.strip())
    return found


def _driver() -> str:
    return _read(_NVIDIA / "version").partition("\n")[0]


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
