"""Reads the imports of every module, and says which of them break the rules of the layers. Imports nothing itself."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

LAYERS = (
    "ground",
    "format",
    "models",
    "stores",
    "repo",
    "cache",
    "maintenance",
    "publish",
    "importing",
    "pins",
    "vfs",
    "checkout",
    "exporting",
    "client",
    "runs",
    "fuse",
    "daemon",
    "web",
    "api",
    "cli",
)
"""Bottom to top; a module imports from its own layer and from below. `ground` is fsd/*.py; `api` is fsd/__init__.py,
the public Python API; the others are folders of fsd, and `cli` is the folder beside it."""

BANNED = {
    ("publish", "cache"),
    ("maintenance", "cache"),
    ("importing", "cache"),
    *((low, top) for low in ("publish", "importing", "maintenance") for top in ("vfs", "fuse")),
}
"""What a layer does not import although it stands below, or will not even if the order changes."""

OWNERS = {
    "blake3": ("fsd.",),
    "botocore": ("fsd.stores.obstore_clients",),
    "click": ("fsd_cli",),
    "fsspec": ("fsd.client.filesystem", "fsd.importing.filesystems"),
    "google": ("fsd.stores.gcs",),
    "google_crc32c": ("fsd.stores.gcs",),
    "obstore": ("fsd.stores.obstore",),
    "numpy": ("fsd.runs.attribution",),
    "optuna": ("fsd.runs.attribution.crosscheck",),
    "hypercorn": ("fsd.daemon.control_api",),
    "pyfastcdc": ("fsd.format",),
    "pyfuse3": ("fsd.fuse",),
    "requests": ("fsd.stores.gcs",),
    "rocksdict": ("fsd.cache",),
    "prometheus_client": ("fsd.daemon.metrics",),
    "starlette": ("fsd.daemon.control_api", "fsd.daemon.control_daemon", "fsd.daemon.control_request"),
    "trio": ("fsd",),
    "urllib3": ("fsd.stores.gcs", "fsd.stores.obstore"),
    "yaml": ("fsd.importing.dvc", "fsd.runs.params"),
    "zstandard": ("fsd.format",),
}
"""The dependencies, and who may import each: modules whose name starts so."""

IMPURE = {"asyncio", "fcntl", "mmap", "os", "pathlib", "random", "secrets", "select", "shutil", "socket"}
IMPURE |= {"subprocess", "tempfile", "time", "trio"}
"""What `format` does without: it turns bytes into objects and back, the same every time."""

LAZY_LOADERS = {"fsd", "fsd_cli.main", "fsd.daemon.control", "fsd.daemon.control_daemon", "fsd.stores.open"}
LAZY_LOADERS |= {"fsd.importing.opening", "fsd.exporting.loading", "fsd.runs.attribution.numeric"}
"""Modules that load others by name: the command line starts a command's module only when that command runs, a store's
library is loaded only for such a store, that of metrics only where they are asked for, numpy only for a question that
takes it, and `import fsd` is for everybody, also for who only wants to shuffle paths."""

ENVIRONMENT_READERS = {"fsd.client.opening", "fsd.runs.reporting"}
"""Beside the command line, the modules that stand in its place for a Python program."""

STARTING_PACKAGES = {"fsd.fuse": {"fsd.fuse.interpose"}}
"""Packages whose import does something, and what it takes: the extension must be there before pyfuse3 is."""


@dataclass(frozen=True)
class Module:
    """A source file."""

    name: str
    tree: ast.Module
    is_package: bool

    @property
    def layer(self) -> str:
        """Where it stands; a folder that is no layer gives its own name."""
        first, *rest = self.name.split(".")
        if first == "fsd_cli":
            return "cli"
        if not rest:
            return "api"
        return rest[0] if len(rest) > 1 or self.is_package else "ground"


def read_modules(root: Path) -> dict[str, Module]:
    """All modules of the project at `root`, by name."""
    modules = {}
    for folder, package in (("fsd", "fsd"), ("cli", "fsd_cli")):
        for path in sorted((root / folder).rglob("*.py")):
            parts = [package, *path.relative_to(root / folder).with_suffix("").parts]
            is_package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if is_package else parts)
            modules[name] = Module(name, ast.parse(path.read_text("utf-8"), str(path)), is_package)
    return modules


def imported(module: Module, modules: Mapping[str, Module]) -> Iterator[tuple[int, str]]:
    """The line and the name of each module it imports: `from fsd import ids` is an import of fsd.ids."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield node.lineno, whole if whole in modules else node.module


def violations(root: Path) -> list[str]:
    """One line for each broken rule in the project at `root`; none is as it should be."""
    modules = read_modules(root)
    found = []
    for module in modules.values():
        for check in (_imports, _places, _packages, _purity, _process):
            found += [f"{module.name}:{line}: {message}" for line, message in check(module, modules)]
    return found + _cycles(modules)


def _imports(module: Module, modules: Mapping[str, Module]) -> Iterator[tuple[int, str]]:
    """Layers, bans and owners."""
    if module.layer not in LAYERS:
        yield 1, f"{module.layer!r} is no layer"
        return
    for line, name in imported(module, modules):
        for owned, owners in OWNERS.items():
            if (name == owned or name.startswith(owned + ".")) and not module.name.startswith(owners):
                yield line, f"{owned} belongs to {' and '.join(owners)}"
        first = name.split(".")[0]
        if first not in ("fsd", "fsd_cli"):
            if first not in OWNERS and first not in sys.stdlib_module_names:
                yield line, f"{first} is no dependency"
            continue
        if name not in modules:
            yield line, f"there is no module {name}"
            continue
        layer = modules[name].layer
        if layer not in LAYERS or LAYERS.index(layer) > LAYERS.index(module.layer):
            yield line, f"{module.layer} imports {name}, which stands above"
        elif (module.layer, layer) in BANNED:
            yield line, f"{module.layer} never imports {layer}"


def _places(module: Module, _: Mapping[str, Module]) -> Iterator[tuple[int, str]]:
    """Imports stand at the top of a module, plainly."""
    top = set(map(id, module.tree.body))
    for node in ast.walk(module.tree):
        match node:
            case ast.ImportFrom(names=[ast.alias(name="*")]):
                yield node.lineno, "import *"
            case ast.ImportFrom(level=level) if level:
                yield node.lineno, "relative import"
            case ast.Import() | ast.ImportFrom() if id(node) not in top:
                yield node.lineno, "an import that is not at the top of the module"
            case ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"):
                yield node.lineno, "TYPE_CHECKING hides a cycle"
            case ast.Attribute(attr="import_module") | ast.Name(id="import_module" | "__import__"):
                if module.name not in LAZY_LOADERS:
                    yield node.lineno, "an import by name"


def _packages(module: Module, modules: Mapping[str, Module]) -> Iterator[tuple[int, str]]:
    """An `__init__` hands on nothing: whoever needs a module names it."""
    if not module.is_package or module.layer == "api":
        return
    allowed = STARTING_PACKAGES.get(module.name)
    if allowed is not None:
        for line, name in imported(module, modules):
            if name not in {*allowed, "__future__"}:
                yield line, f"the package imports {name}"
        return
    for node in module.tree.body:
        match node:
            case ast.Expr(value=ast.Constant(value=str())) | ast.ImportFrom(module="__future__"):
                pass
            case _:
                yield node.lineno, "a package's __init__ holds a docstring and nothing else"


def _purity(module: Module, modules: Mapping[str, Module]) -> Iterator[tuple[int, str]]:
    """The format does no I/O."""
    if module.layer != "format":
        return
    for line, name in imported(module, modules):
        if name.split(".")[0] in IMPURE:
            yield line, f"format imports {name}"
    for node in ast.walk(module.tree):
        match node:
            case ast.Call(func=ast.Name(id="open" | "print" | "input")):
                yield node.lineno, "format does no I/O"


def _process(module: Module, _: Mapping[str, Module]) -> Iterator[tuple[int, str]]:
    """Only the cli prints, exits, and reads the arguments and the environment."""
    if module.layer == "cli":
        return
    for node in ast.walk(module.tree):
        match node:
            case ast.Call(func=ast.Name(id="print" | "exit" as name)):
                yield node.lineno, f"{name}() belongs to the cli"
            case ast.Attribute(value=ast.Name(id="sys"), attr="exit" | "argv" as name):
                yield node.lineno, f"sys.{name} belongs to the cli"
            case ast.Attribute(value=ast.Name(id="os"), attr="environ" | "environb" | "getenv" as name) if (
                module.name not in ENVIRONMENT_READERS
            ):
                yield node.lineno, f"os.{name} belongs to the cli"


def _cycles(modules: Mapping[str, Module]) -> list[str]:
    """Modules that import each other in a circle, however long."""
    graph = {
        name: {target for _, target in imported(module, modules)} & set(modules) for name, module in modules.items()
    }
    done: set[str] = set()
    found = []

    def visit(name: str, path: list[str]) -> None:
        if name in path:
            found.append("cycle: " + " -> ".join([*path[path.index(name) :], name]))
        elif name not in done:
            for target in sorted(graph[name]):
                visit(target, [*path, name])
            done.add(name)

    for name in graph:
        visit(name, [])
    return found
