"""What a command may use that is to use nothing undeclared (`fsd.runs.landlock`): the machine, its Python, its code,
what was declared, the mounts, and its outputs.

Blocks: a Python is asked where it has its packages, for 0.1 s.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from fsd.runs import environment, metrics, params
from fsd.runs.landlock import Allowed, system
from fsd.runs.wanted import Wanted


def allowed(wanted: Wanted, program: str, code: Iterable[Path], temporary: Path, report: Path) -> Allowed:
    """For the command of a run; `code` are the files that count, `temporary` is a folder of its own, `report` the one
    where it says what it has to say."""
    files = list(code)
    folders = dict.fromkeys(folder for file in files for folder in file.parents if folder.is_relative_to(wanted.top))
    interpreter = environment.interpreter_of(program, wanted.variables)
    return system() | Allowed(
        read=[
            *environment.python_places(program, wanted.variables, wanted.directory),
            *(Path(os.path.realpath(path)) for path in (program, interpreter) if path is not None),
            *files,
            wanted.directory / params.FILE_NAME,
            *(Path(os.path.realpath(path)) for path in wanted.dependencies),
            *map(Path, wanted.mountpoints),
        ],
        write=[temporary, report],
        outputs=[*wanted.outputs, *(wanted.directory / name for name in metrics.WRITTEN)],
        listed=[wanted.directory, *folders],
    )
