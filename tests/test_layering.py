"""The layers hold, and the check that says so can fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.layers import read_modules, violations

PROJECT = Path(__file__).parents[1]


def test_the_layers_hold() -> None:
    assert violations(PROJECT) == []


def test_all_modules_are_seen() -> None:
    modules = read_modules(PROJECT)
    assert {"fsd", "fsd.ids", "fsd.stores", "fsd.stores.base", "fsd_cli"} <= set(modules)


SOUND = {
    "fsd/__init__.py": '"""The API."""\nfrom fsd.daemon.mount import mount',
    "fsd/ids.py": "import os",
    "fsd/format/__init__.py": '"""Bytes."""\nfrom __future__ import annotations',
    "fsd/format/page.py": "import zstandard\nfrom fsd import ids",
    "fsd/stores/__init__.py": "",
    "fsd/stores/base.py": "from fsd.format.page import Page",
    "fsd/stores/gcs.py": "from google.cloud import storage\nfrom fsd.stores.base import Store",
    "fsd/fuse/__init__.py": "from fsd.fuse import interpose\ninterpose.load()",
    "fsd/fuse/interpose.py": "import ctypes",
    "fsd/fuse/adapter.py": "import pyfuse3",
    "fsd/daemon/__init__.py": "",
    "fsd/daemon/mount.py": "from fsd.fuse.adapter import Operations",
    "cli/__init__.py": "",
    "cli/main.py": "import click, importlib\nimport fsd\nimportlib.import_module('fsd_cli.x')\nprint(fsd)",
}


def write(root: Path, files: dict[str, str]) -> list[str]:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return violations(root)


def test_a_sound_project_has_no_violations(tmp_path: Path) -> None:
    assert write(tmp_path, SOUND) == []


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "fsd/stores/bad.py",
            "from fsd.daemon.mount import mount",
            "stores imports fsd.daemon.mount, which stands above",
        ),
        ("fsd/stores/bad.py", "import fsd.daemon.mount", "stores imports fsd.daemon.mount, which stands above"),
        ("fsd/stores/bad.py", "from fsd.daemon import mount", "stores imports fsd.daemon.mount, which stands above"),
        ("fsd/bad.py", "from fsd.stores import base", "ground imports fsd.stores.base, which stands above"),
        ("fsd/daemon/bad.py", "from fsd_cli import main", "daemon imports fsd_cli.main, which stands above"),
        ("fsd/daemon/bad.py", "import fsd", "daemon imports fsd, which stands above"),
        ("fsd/daemon/bad.py", "from fsd import mount", "daemon imports fsd, which stands above"),
        ("fsd/daemon/bad.py", "from fsd.daemon.nothing import x", "there is no module fsd.daemon.nothing"),
        ("fsd/helpers/bad.py", "", "'helpers' is no layer"),
        ("fsd/publish/bad.py", "from fsd.cache.cache import Cache", "publish never imports cache"),
        ("fsd/maintenance/bad.py", "from fsd.cache.cache import Cache", "maintenance never imports cache"),
        (
            "fsd/publish/bad.py",
            "from fsd.fuse.adapter import x",
            "publish imports fsd.fuse.adapter, which stands above",
        ),
        ("fsd/daemon/bad.py", "import pyfuse3", "pyfuse3 belongs to fsd.fuse"),
        ("fsd/daemon/bad.py", "from click import echo", "click belongs to fsd_cli"),
        ("fsd/stores/bad.py", "import google.auth", "google belongs to fsd.stores.gcs"),
        ("fsd/repo/bad.py", "from rocksdict import Rdict", "rocksdict belongs to fsd.cache"),
        ("fsd/repo/bad.py", "import pyfastcdc, zstandard", "zstandard belongs to fsd.format"),
        ("fsd/repo/bad.py", "import pandas", "pandas is no dependency"),
        ("fsd/format/bad.py", "import trio", "format imports trio"),
        ("fsd/format/bad.py", "from os import path", "format imports os"),
        ("fsd/format/bad.py", "def f():\n    return open('x')", "format does no I/O"),
        ("fsd/daemon/bad.py", "def f():\n    from fsd import ids", "not at the top of the module"),
        ("fsd/daemon/bad.py", "try:\n    import torch\nexcept ImportError:\n    pass", "not at the top of the module"),
        ("fsd/daemon/bad.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    pass", "TYPE_CHECKING hides"),
        ("fsd/daemon/bad.py", "import typing\nif typing.TYPE_CHECKING:\n    pass", "TYPE_CHECKING hides"),
        ("fsd/daemon/bad.py", "from fsd.ids import *", "import *"),
        ("fsd/daemon/bad.py", "from . import mount", "relative import"),
        ("fsd/daemon/bad.py", "import importlib\nimportlib.import_module('x')", "an import by name"),
        ("fsd/daemon/bad.py", "__import__('x')", "an import by name"),
        ("fsd/daemon/__init__.py", "from fsd.daemon.mount import mount", "holds a docstring and nothing else"),
        ("fsd/daemon/__init__.py", "X = 1", "holds a docstring and nothing else"),
        ("fsd/fuse/__init__.py", "from fsd.fuse.adapter import x", "the package imports fsd.fuse.adapter"),
        ("cli/__init__.py", "from fsd_cli.main import main", "holds a docstring and nothing else"),
        ("fsd/daemon/bad.py", "print(1)", "print() belongs to the cli"),
        ("fsd/daemon/bad.py", "import sys\nsys.exit(1)", "sys.exit belongs to the cli"),
        ("fsd/daemon/bad.py", "import os\nos.environ['X']", "os.environ belongs to the cli"),
        (
            "fsd/daemon/bad.py",
            "from fsd.daemon import worse",
            "cycle: fsd.daemon.bad -> fsd.daemon.worse -> fsd.daemon.bad",
        ),
        ("fsd/daemon/bad.py", "import fsd.daemon.bad", "cycle: fsd.daemon.bad -> fsd.daemon.bad"),
    ],
)
def test_each_violation_is_seen(tmp_path: Path, name: str, text: str, message: str) -> None:
    helpers = {
        "fsd/cache/cache.py": "class Cache: pass",
        "fsd/daemon/worse.py": "from fsd.daemon import bad" if "worse" in text else "",
    }
    found = write(tmp_path, {**SOUND, **helpers, name: text})
    assert len([line for line in found if message in line]) == 1, found
