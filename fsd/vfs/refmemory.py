"""What was known of refs, written down now and then: what a mount shows that begins while its store is out of reach.

One file, JSON, replaced as a whole. It is a hint and checked like one: a ref is as the store has it, with its checksum;
whatever makes no sense is forgotten. What is recalled is older than any answer, so it is asked for again at once.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import trio

from fsd.durable import replace_file
from fsd.errors import CorruptDataError
from fsd.format.keys import is_ref_name, is_repository_name
from fsd.format.ref import Ref, encode_ref, parse_ref

log = logging.getLogger(__name__)

VERSION = 1

SAVE_INTERVAL_S = 1.0
"""Only where something has changed."""

MAX_REFS = 2048
"""Written down, those asked for last: some kilobytes each at most."""


@dataclass(slots=True)
class KnownRefs:
    """What is known."""

    repositories: Sequence[str] | None = None
    refs: dict[tuple[str, str], Ref] = field(default_factory=dict)
    """By repository and name; the one asked for last stands at the end."""
    listed: frozenset[str] = frozenset()
    """Repositories of which all refs are known."""

    def encode(self) -> bytes:
        """For the file."""
        refs: dict[str, dict[str, str]] = {}
        left_out: set[str] = set()
        for number, ((repository, name), ref) in enumerate(reversed(self.refs.items())):
            if number < MAX_REFS:
                refs.setdefault(repository, {})[name] = encode_ref(ref).decode()
            else:
                left_out.add(repository)
        document = {
            "version": VERSION,
            "repositories": None if self.repositories is None else list(self.repositories),
            "refs": refs,
            "listed": sorted(self.listed - left_out),
        }
        return json.dumps(document).encode()

    @classmethod
    def decode(cls, data: bytes) -> KnownRefs:
        """What `encode` made. Raises ValueError, KeyError, TypeError, AttributeError or CorruptDataError."""
        document: dict[str, Any] = json.loads(data)
        if document["version"] != VERSION:
            raise ValueError(f"version {document['version']}")
        names = document["repositories"]
        refs = {
            (repository, name): parse_ref(text.encode(), f"{repository}/{name}")
            for repository, texts in document["refs"].items()
            for name, text in islice(texts.items(), MAX_REFS)
            if is_repository_name(repository) and is_ref_name(name)
        }
        repositories = None if names is None else sorted(name for name in names if is_repository_name(name))
        return cls(repositories, dict(reversed(refs.items())), frozenset(document["listed"]))


class RefMemory:
    """The file. `path` None remembers nothing."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    async def recall(self) -> KnownRefs:
        """What was saved last; nothing if that cannot be read."""
        if self._path is None:
            return KnownRefs()
        try:
            return KnownRefs.decode(await trio.to_thread.run_sync(self._path.read_bytes))
        except FileNotFoundError:
            return KnownRefs()
        except (OSError, ValueError, KeyError, TypeError, AttributeError, CorruptDataError) as error:
            log.warning("what was known of refs cannot be read: %s", error)
            return KnownRefs()

    async def save(self, known: KnownRefs) -> None:
        """Replace what was saved. That this fails is no error."""
        if self._path is not None:
            try:
                await trio.to_thread.run_sync(_write, self._path, known)
            except OSError as error:
                log.info("what is known of refs is not remembered: %s", error)


def _write(path: Path, known: KnownRefs) -> None:
    # Thousands of refs take a quarter of a second to encode.
    replace_file(path, known.encode())
