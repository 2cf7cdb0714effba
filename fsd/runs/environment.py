"""In what surroundings a command runs: the program, Python and its packages, the machine, its GPUs, variables.

A Python is asked also where the program is none: a shell script may call it. Which that is, only running it would tell;
those are asked that the search path and the work tree's own virtual environment offer.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from blake3 import blake3

from fsd.runs.variables import describe as describe_variables
from fsd.runs.variables import normalised

_PYTHON = re.compile(r"(python|pypy)[0-9.]*\Z")
_ASK_TIMEOUT_S = 10.0
_SHEBANG_BYTES = 512
_NVIDIA = Path("/proc/driver/nvidia")

_MAX_SOURCE_FILES = 20_000
"""Of a folder that Python imports from."""
_CACHES = ("__pycache__", ".git", ".venv", "node_modules")
"""What changes in them changes nothing."""

_QUESTION = """
import json, os, platform, sys
found, folders = {}, set()
for folder in sys.path:
    try:
        names = os.listdir(folder or ".")
    except OSError:
        names = ()
        if os.path.isfile(folder) and os.path.basename(folder) != "python%d%d.zip" % sys.version_info[:2]:
            folders.add(folder)
    for name in names:
        if name.endswith((".dist-info", ".egg-info")):
            package, _, version = name.rpartition(".")[0].partition("-")
            found.setdefault(package.lower().replace("_", "-"), version.partition("-py")[0])
    if names and folder and os.path.basename(folder) not in ("site-packages", "dist-packages", "lib-dynload"):
        if os.path.abspath(folder) != os.path.dirname(os.__file__):
            folders.add(os.path.abspath(folder))
for name, module in list(sys.modules.items()):
    if name.startswith("__editable__"):
        folders.update(map(str, getattr(module, "MAPPING", {}).values()))
version = platform.python_version()
print(json.dumps([sys.executable, {"version": version, "packages": found}, sorted(folders)]))
"""
"""Names of folders alone: reading what is in them takes ten times as long. Folders are those that hold source which
somebody may be changing: of editable installations, and in PYTHONPATH."""

_WHERE = """
import json, os, site, sys
places = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix, os.path.realpath(sys.executable)}
places.update(site.getsitepackages() if hasattr(site, "getsitepackages") else [])
places.update([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])
print(json.dumps(sorted(places)))
"""
"""Not all of `sys.path`: what PYTHONPATH and editable packages add may be the work tree, with whatever lies in it."""


def describe(program: str, variables: Mapping[str, str], directory: Path, top: Path) -> dict[str, Any]:
    """What a record says of the surroundings of `program`, a file. Blocks: a Python is asked, for 0.1 s."""
    home = variables.get("HOME", "")
    interpreter = interpreter_of(program, variables)
    pythons = _pythons(program, interpreter, variables, top)
    with ThreadPoolExecutor(max(1, len(pythons))) as pool:
        answers = pool.map(lambda path: _ask(path, variables, directory, top), pythons.values())
        asked = dict(zip(pythons, answers, strict=True))
    return {
        "program": {"path": program, "blake3": _content(program)},
        "interpreter": None if interpreter is None else {"path": interpreter, "blake3": _content(interpreter)},
        "python": None,
        **asked,
        "machine": {
            "host": platform.node(),
            "system": platform.system(),
            "release": platform.release(),
            "architecture": platform.machine(),
            "processors": os.cpu_count(),
            "gpus": _gpus(),
            "driver": _driver(),
        },
        **describe_variables(variables, os.fspath(top), home),
    }


def python_places(program: str, variables: Mapping[str, str], directory: Path) -> list[Path]:
    """Where the Python has its library and packages that `program` is, or is a script of; absolute and without
    symlinks. None where it is no Python's. Blocks: the Python is asked, for 0.1 s."""
    interpreter = next(
        (path for path in (program, interpreter_of(program, variables)) if path and _is_python(path)), None
    )
    found = None if interpreter is None else _answer_of(interpreter, _WHERE, variables, directory)
    return [Path(os.path.realpath(place)) for place in found or ()]


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


def _is_python(program: str) -> bool:
    return _PYTHON.match(os.path.basename(program)) is not None


def interpreter_of(program: str, variables: Mapping[str, str]) -> str | None:
    """What the first line of a script names."""
    try:
        with open(program, "rb") as file:
            first = file.read(_SHEBANG_BYTES).partition(b"\n")[0]
    except OSError:
        return None
    words = os.fsdecode(first.removeprefix(b"#!")).split() if first.startswith(b"#!") else []
    if words and os.path.basename(words[0]) == "env":
        path = variables.get("PATH")
        words = [found for word in words[1:] if not word.startswith("-") and (found := shutil.which(word, path=path))]
    return words[0] if words else None


def _pythons(program: str, interpreter: str | None, variables: Mapping[str, str], top: Path) -> dict[str, str]:
    """The Pythons to be asked, by what a record calls them."""
    for path in (program, interpreter):
        if path is not None and _is_python(path):
            return {"python": path}
    path = variables.get("PATH")
    own = top / ".venv" / "bin" / "python"
    found = {
        "python": shutil.which("python", path=path),
        "python3": shutil.which("python3", path=path),
        "venv": os.fspath(own) if own.exists() else None,
    }
    # In one folder, they are the same.
    by_folder = {os.path.dirname(python): name for name, python in reversed(found.items()) if python is not None}
    named = {name: python for name in by_folder.values() if (python := found[name]) is not None}
    if named and "python" not in named:
        first = next(name for name in found if name in named)
        named["python"] = named.pop(first)
    return named


def _ask(interpreter: str, variables: Mapping[str, str], directory: Path, top: Path) -> dict[str, Any]:
    """Its version and packages, as the command would find them; and why that is not known, if it is not."""
    answer = _answer_of(interpreter, _QUESTION, variables, directory)
    if answer is None:
        return {"path": interpreter, "problem": f"{interpreter} does not say what it has"}
    executable, said, named = answer
    folders = [Path(folder) for folder in named]
    home = variables.get("HOME", "")
    # What is in the work tree is code.
    outside = [folder for folder in folders if not folder.is_relative_to(top)]
    sources = {normalised(os.fspath(folder), os.fspath(top), home): _digest_of_source(folder) for folder in outside}
    return {"path": interpreter, "blake3": _content(executable), **said, "sources": sources}


def _answer_of(interpreter: str, question: str, variables: Mapping[str, str], directory: Path) -> Any:
    """The JSON that a program prints, or None if it prints none."""
    try:
        done = subprocess.run(
            [interpreter, "-c", question],
            env=dict(variables),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_ASK_TIMEOUT_S,
            check=True,
        )
        return json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def _digest_of_source(folder: Path) -> str | None:
    """What a folder of source holds; None where that is too much to be looked at."""
    digest = blake3()
    count = 0
    if folder.is_file():
        return _content(os.fspath(folder))
    for path, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _CACHES)
        for name in sorted(names):
            count += 1
            if count > _MAX_SOURCE_FILES:
                return None
            file = os.path.join(path, name)
            what = f"{os.path.relpath(file, folder)}\0{_content(file)}\0"
            digest.update(what.encode(errors="surrogateescape"))
    return digest.hexdigest()


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
