"""What DVC writes into Git: `.dvc` files and `dvc.lock`, as the outputs that they name. No I/O.

Scalars are read as text, whatever they look like: an MD5 of digits only is no number, and a file called `on` no truth.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from fsd.errors import CorruptDataError
from fsd.ids import Buffer
from fsd.publish.source import shown

LOCK_NAME = b"dvc.lock"
PIPELINE_NAME = b"dvc.yaml"
SUFFIX = b".dvc"

_DIRECTORY = ".dir"
_LOADER: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_TRUE = "true"


class Part(NamedTuple):
    """A file of a directory that DVC tracks."""

    path: bytes
    """From the directory."""
    md5: str
    executable: bool = False


class Output(NamedTuple):
    """Something that DVC tracks."""

    path: bytes
    """From the top of the DVC repository; it may lead out of it."""
    md5: str
    """'' where DVC has not hashed it."""
    is_directory: bool
    executable: bool
    is_legacy: bool
    """Of DVC before 3.0: hashed, and kept, in its way."""
    is_cached: bool
    """Whether DVC keeps the content, not Git."""
    remote: str | None
    """The remote that has it, if not the usual one."""
    parts: Sequence[Part] | None
    """Of a directory, where they stand beside it (remotes with versions of their own); else in its manifest."""


def outputs_of_file(data: Buffer, path: bytes) -> Iterator[Output]:
    """What a `.dvc` file at `path` names. Raises CorruptDataError."""
    document = _mapping(data, path)
    where = posixpath.join(posixpath.dirname(path), _bytes(document.get("wdir", ".")))
    for out in _list(document.get("outs"), path):
        yield _output(out, where, path)


def outputs_of_lock(data: Buffer, pipeline: Buffer | None, path: bytes) -> Iterator[Output]:
    """What the `dvc.lock` at `path` names; `pipeline` is the `dvc.yaml` beside it, if there is one."""
    document = _mapping(data, path)
    stages = document.get("stages") if "schema" in document else document
    described = {} if pipeline is None else _mapping(pipeline, path).get("stages")
    if not isinstance(stages, dict):
        return
    for name, stage in stages.items():
        if not isinstance(stage, dict):
            raise _unreadable(path, f"stage {name}")
        where = posixpath.join(posixpath.dirname(path), _bytes(_work_folder(described, str(name))))
        for out in _list(stage.get("outs"), path):
            yield _output(out, where, path)


def _work_folder(described: Any, name: str) -> str:
    """Where a stage runs: its outputs' paths count from there. Of a stage that stands for many, what is common."""
    stage = described.get(name, described.get(name.partition("@")[0])) if isinstance(described, dict) else None
    if isinstance(stage, dict):
        stage = stage.get("do", stage)
    folder = stage.get("wdir", ".") if isinstance(stage, dict) else "."
    return str(folder)


def _output(out: Any, where: bytes, path: bytes) -> Output:
    if not isinstance(out, dict) or not isinstance(out.get("path"), str):
        raise _unreadable(path, "an output without a path")
    md5 = str(out.get("md5") or "")
    parts = None
    if isinstance(out.get("files"), list):
        parts = [_part(each, path) for each in out["files"]]
    return Output(
        path=_path(_bytes(out["path"]), where),
        md5=md5.removesuffix(_DIRECTORY),
        is_directory=md5.endswith(_DIRECTORY) or parts is not None,
        executable=out.get("isexec") == _TRUE,
        is_legacy="hash" not in out,
        is_cached=str(out.get("cache", _TRUE)).lower() == _TRUE,
        remote=out.get("remote") if isinstance(out.get("remote"), str) else None,
        parts=parts,
    )


def _path(path: bytes, where: bytes) -> bytes:
    """From the top; URLs stay as they are."""
    return path if b"://" in path else posixpath.normpath(posixpath.join(where, path))


def parts_of_manifest(data: Buffer, path: bytes) -> list[Part]:
    """The files of the directory at `path`, by its manifest. Raises CorruptDataError."""
    try:
        listed = json.loads(bytes(data))
    except ValueError as error:
        raise _unreadable(path, "the list of its files") from error
    return [_part(each, path) for each in _list(listed, path)]


def _part(each: Any, path: bytes) -> Part:
    if not (isinstance(each, dict) and isinstance(each.get("relpath"), str) and isinstance(each.get("md5"), str)):
        raise _unreadable(path, "a file without name or MD5")
    return Part(_bytes(each["relpath"]), each["md5"], str(each.get("isexec", "")).lower() == _TRUE)


def _mapping(data: Buffer, path: bytes) -> Mapping[str, Any]:
    try:
        document = yaml.load(bytes(data), Loader=_LOADER)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _unreadable(path, " ".join(str(error).split())) from error
    if document in (None, ""):
        return {}
    if not isinstance(document, dict):
        raise _unreadable(path, "no mapping")
    return document


def _list(value: Any, path: bytes) -> Sequence[Any]:
    if value in (None, ""):
        return ()
    if not isinstance(value, list):
        raise _unreadable(path, "no list")
    return value


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _unreadable(path: bytes, what: str) -> CorruptDataError:
    return CorruptDataError(f"{shown(path)} is not as DVC writes it: {what[:200]}", hint="look what 'dvc status' says")
