"""`fsd show`: what is known of a version, or of one path of it; of a model file, what is in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from fsd.client.opening import reader_settings
from fsd.client.reader import Reader
from fsd.client.store import EntryInfo, Store, Version
from fsd.config import format_size
from fsd.errors import CorruptDataError
from fsd.format.commit import Commit
from fsd.format.ref import RefKind
from fsd.ids import parse_id
from fsd.models.description import Description, NotThatFormatError
from fsd.models.files import describe_file
from fsd.repo.refs import short
from fsd_cli.completion import complete_place
from fsd_cli.context import Invocation, pass_invocation
from fsd_cli.output import json_option, print_json, print_table, say
from fsd_cli.paths import DEFAULT_BRANCH, parse_place
from fsd_cli.text import Column, count, json_time, local_time, shown

_TENSOR_COLUMNS = (
    Column("TENSOR"),
    Column("DTYPE"),
    Column("SHAPE"),
    Column("ELEMENTS", right=True),
    Column("SIZE", right=True),
)


@click.command()
@click.argument("place", metavar="REPO[/REV[/PATH]]", shell_complete=complete_place)
@json_option
@pass_invocation
def show(invocation: Invocation, place: str, as_json: bool) -> None:
    """Show what is known of a version, or of a path in it.

    Of a safetensors or ONNX file its tensors, names, shapes and types; of a PyTorch checkpoint, on which devices its
    tensors were. Only the bytes that say so are read, and nothing in a file is executed.
    """
    parsed = parse_place(place)
    with Store(reader_settings(invocation)) as store:
        version = store.version(f"{parsed.repository}/{parsed.revision or DEFAULT_BRANCH}")
        if not parsed.path:
            _show_version(store, version, as_json=as_json)
            return
        path = parsed.path.decode(errors="surrogateescape")
        info = version.stat(path, follow=False)
        _show_path(version, info, _described(version, info), as_json=as_json)


# --- a version


def _show_version(store: Store, version: Version, *, as_json: bool) -> None:
    async def look(reader: Reader) -> tuple[Commit, list[str]]:
        commit = await reader.repositories.commit(parse_id(version.commit))
        refs = await reader.repositories.refs.read_all(version.repository)
        names = [
            name
            for name, stored in refs.items()
            if stored.ref.kind is not RefKind.SUBSET and stored.ref.target.hex() == version.commit
        ]
        return commit, names

    commit, names = store.call(look)
    if as_json:
        print_json(
            {
                "repository": version.repository,
                "commit": version.commit,
                "subset": version.subset,
                "names": names,
                "parents": [parent.hex() for parent in commit.parents],
                "author": commit.author,
                "time": json_time(commit.time_us),
                "message": commit.message,
                "files": commit.totals.files,
                "bytes": commit.totals.bytes,
                "metadata": dict(commit.metadata),
            }
        )
        return
    say(f"commit   {version.commit}")
    if version.subset is not None:
        say(f"subset   {version.subset} of it")
    if names:
        say(f"names    {', '.join(names)}")
    if commit.parents:
        say(f"parents  {', '.join(map(short, commit.parents))}")
    say(f"author   {shown(commit.author)}")
    say(f"time     {local_time(commit.time_us)}")
    say(f"content  {count(commit.totals.files, 'file')}, {format_size(commit.totals.bytes)}")
    _say_metadata(commit.metadata)
    if commit.message:
        say()
        for line in commit.message.splitlines():
            say(f"    {shown(line)}")


def _say_metadata(metadata: Mapping[str, Any]) -> None:
    for key, value in metadata.items():
        say(f"{shown(key)}  {shown(value if isinstance(value, str) else json.dumps(value))}")


# --- a path


def _described(version: Version, info: EntryInfo) -> Description | None:
    if info.kind != "file":
        return None
    with version.open(info.path) as file:
        try:
            return describe_file(info.name, file, info.size)
        except NotThatFormatError as error:
            raise CorruptDataError(f"{info.path} is no model file of the kind its name says: {error}") from error


def _show_path(version: Version, info: EntryInfo, description: Description | None, *, as_json: bool) -> None:
    if as_json:
        print_json(_path_json(version, info, description))
        return
    say(f"path     {shown(info.path)}")
    say(f"in       {version.name}")
    say(f"kind     {info.kind}{', executable' if info.executable else ''}")
    if info.kind == "symlink":
        say(f"target   {shown(info.target)}")
    if info.kind == "file":
        say(f"size     {format_size(info.size)} ({info.size:,} bytes)")
        say(f"blake3   {info.blake3}")
    if description is not None:
        _say_description(description)


def _say_description(description: Description) -> None:
    say(f"format   {description.format}")
    if description.devices:
        fails = "; loading it fails where there is none of these" if description.needs_gpu else ""
        say(f"devices  {', '.join(description.devices)}{fails}")
    if description.tensors:
        say(f"tensors  {len(description.tensors):,}, {description.parameters:,} elements")
    if description.metadata:
        say()
        _say_metadata(description.metadata)
    if description.tensors:
        say()
        print_table(
            _TENSOR_COLUMNS,
            [
                (
                    shown(tensor.name),
                    tensor.dtype,
                    " × ".join(map(str, tensor.shape)) or "-",
                    f"{tensor.elements:,}",
                    format_size(tensor.size),
                )
                for tensor in description.tensors
            ],
        )


def _path_json(version: Version, info: EntryInfo, description: Description | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "repository": version.repository,
        "commit": version.commit,
        "subset": version.subset,
        "path": info.path,
        "kind": info.kind,
        "size": info.size,
        "executable": info.executable,
        "blake3": info.blake3,
        "target": info.target,
    }
    if description is not None:
        found["model"] = {
            **description.summary(),
            "metadata": description.metadata,
            "tensors": [{**tensor._asdict(), "shape": list(tensor.shape)} for tensor in description.tensors],
        }
    return found
