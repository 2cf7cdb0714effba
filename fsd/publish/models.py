"""What a commit says of the model files in it: format, tensors, types. Kept in its metadata as `models`, by path.

Only what is new or changed is looked into, and of that only headers, no tensors. Nothing is executed. What the folder's
last commit said of the others is taken over. A file that cannot be described is published like any other: nothing that
is in one, or is said of it, makes a folder unpublishable.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from typing import Any

from fsd.errors import UsageError
from fsd.format.commit import check_words
from fsd.models.description import Description, NotThatFormatError
from fsd.models.files import DESCRIBERS, PYTORCH_SUFFIX, describe_file, describer_of
from fsd.publish.delta import Batch
from fsd.publish.ingest import ToRead
from fsd.publish.landing import Request
from fsd.publish.source import ChangedError, Found, SourceFolder, UnreadableError, shown

METADATA_KEY = "models"

MAX_MODELS = 256
"""Described in one commit: 50 KB of its header. A model in more parts than that is told by its first ones."""

_SUFFIXES = tuple(suffix.encode() for suffix in (*DESCRIBERS, PYTORCH_SUFFIX))
"""Of what is worth a closer look at its name."""


class ModelFiles:
    """The model files of one publishing."""

    def __init__(self, before: Mapping[str, Any]) -> None:
        """`before`: what the commit that the folder is compared with says of its models."""
        self._known = dict(before)
        self._fresh: list[Found] = []
        self.warnings: list[str] = []
        """For people: a line for each file that will not load everywhere."""

    def watch(self, batches: Generator[Batch]) -> Generator[Batch]:
        """The same batches, having looked which models are in them."""
        try:
            for batch in batches:
                for change in batch.changes:
                    if change.name.lower().endswith(_SUFFIXES):
                        self._note(change)
                yield batch
        finally:
            batches.close()

    def _note(self, change: ToRead) -> None:
        path = _text(change)
        if path is not None:
            self._known.pop(path, None)
            is_model = isinstance(change, Found) and change.is_file and describer_of(os.fsdecode(change.name))
            if is_model and len(self._fresh) < MAX_MODELS:
                assert isinstance(change, Found)
                self._fresh.append(change)

    def describe(self, source: SourceFolder, request: Request) -> dict[str, Any]:
        """All that is known of the models, by path, as far as the commit of `request` can say it. Blocks."""
        for found in self._fresh:
            path = _text(found)
            description = self._described(source, found)
            if path is None or description is None:
                continue
            summary = description.summary()
            if not _can_be_said(request, {path: summary}):
                self.warnings.append(f"the commit does not say what is in {shown(found.path)}: it cannot be stored")
                continue
            self._known[path] = summary
            if description.needs_gpu:
                devices = ", ".join(summary["devices"])
                self.warnings.append(
                    f"{shown(found.path)} holds tensors of {devices}, and loading it fails where there is none of "
                    "these; save it as safetensors, which loads everywhere"
                )
        models = dict(sorted(self._known.items())[:MAX_MODELS])
        if not _can_be_said(request, models):
            self.warnings.append("the commit does not say what is in its models: together it is too long to be stored")
            return {}
        return models

    def _described(self, source: SourceFolder, found: Found) -> Description | None:
        try:
            with open(source.open_file(found), "rb") as file:
                return describe_file(os.fsdecode(found.name), file, found.size)
        except NotThatFormatError as error:
            if found.name.lower().endswith((b".safetensors", b".onnx")):  # others may be anything
                self.warnings.append(f"{shown(found.path)} is not what its name says: {error}")
        except (OSError, ChangedError, UnreadableError):
            pass  # it was published as it was; what it is now is another matter
        return None


def _text(change: ToRead) -> str | None:
    """Its path; None if that is not UTF-8, which JSON is."""
    path = change.directory + b"/" + change.name if change.directory else change.name
    try:
        return path.decode()
    except UnicodeDecodeError:
        return None


def _can_be_said(request: Request, models: Mapping[str, Any]) -> bool:
    """Whether a commit holds this beside the words of `request`."""
    try:
        check_words(request.author, request.message, {**request.metadata, METADATA_KEY: models})
    except UsageError:
        return False
    return True
