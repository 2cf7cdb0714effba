"""Buckets and what is in them: generations, preconditions, listings. Knows no HTTP.

Everything happens at one moment, since the one thread of the server does not wait while it is here. A generation is the
time of the write in microseconds, or later by as much as it takes to be another than all before.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from heapq import merge
from itertools import takewhile
from pathlib import Path
from typing import Any

import google_crc32c

from integration.gcs_server.contents import (
    Content,
    FileContent,
    FolderStorage,
    Generator,
    MemoryStorage,
    Storage,
    read_all,
)

MD5_BYTES = 8 * 1024 * 1024
"""Larger objects have no MD5, as composed ones have none: it would be half of what an upload costs."""

SETTABLE = ("contentType", "cacheControl", "contentEncoding", "contentDisposition", "contentLanguage", "metadata")
"""What an uploader may say of an object."""


class GcsError(Exception):
    """An error as the API reports it."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message


def precondition_failed() -> GcsError:
    """What a failed precondition is answered with."""
    return GcsError(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")


@dataclass
class Stored:
    """One generation of an object."""

    name: str
    content: Content
    generation: int
    created: str
    updated: str
    crc32c: str
    """Empty where nobody counted it: for what is made up."""
    md5: str | None
    metageneration: int = 1
    components: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    def as_json(self, bucket: str) -> dict[str, Any]:
        """The object's resource."""
        resource: dict[str, Any] = {
            "kind": "storage#object",
            "id": f"{bucket}/{self.name}/{self.generation}",
            "name": self.name,
            "bucket": bucket,
            "generation": str(self.generation),
            "metageneration": str(self.metageneration),
            "contentType": "application/octet-stream",
            "storageClass": "STANDARD",
            "size": str(self.content.size),
            "etag": self.etag,
            "timeCreated": self.created,
            "updated": self.updated,
            **self.settings,
        }
        if self.crc32c:
            resource["crc32c"] = self.crc32c
        if self.md5 is not None:
            resource["md5Hash"] = self.md5
        if self.components is not None:
            resource["componentCount"] = self.components
        return resource

    @property
    def etag(self) -> str:
        """Changes with the generation and the metageneration."""
        return base64.b64encode(f"{self.generation}/{self.metageneration}".encode()).decode()


def digests(content: Content, crc32c: str | None) -> tuple[str, str | None]:
    """CRC32C, if it is not known yet, and MD5, if it is small, as the API writes them."""
    if crc32c is not None and content.size > MD5_BYTES:
        return crc32c, None
    crc = google_crc32c.Checksum()
    md5 = hashlib.md5(usedforsecurity=False) if content.size <= MD5_BYTES else None
    for piece in read_all(content):
        if crc32c is None:
            crc.update(bytes(piece))
        if md5 is not None:
            md5.update(piece)
    return (
        encode_digest(crc.digest()) if crc32c is None else crc32c,
        None if md5 is None else encode_digest(md5.digest()),
    )


def encode_digest(digest: bytes) -> str:
    """As the API writes it."""
    return base64.b64encode(digest).decode()


def _time(time_us: int) -> str:
    moment = datetime.fromtimestamp(time_us // 1_000_000, UTC).replace(microsecond=time_us % 1_000_000)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Bucket:
    """Objects by name. Where `journal` is given, it is written to and read from there."""

    def __init__(self, name: str, clock: Callable[[], int], journal: Path | None = None) -> None:
        self.name = name
        self.created = _time(clock())
        self.generators: list[Generator] = []
        self._clock = clock
        self._objects: dict[str, Stored] = {}
        self._names: list[str] = []
        self._last_generation = 0
        self._journal = journal
        if journal is not None and journal.exists():
            self._replay(journal)

    # --- reading

    def find(self, name: str) -> Stored | None:
        """What is there now."""
        stored = self._objects.get(name)
        if stored is None:
            for generator in self.generators:
                content = generator.find(self.name, name)
                if content is not None:
                    return _made_up(name, content, self.created)
        return stored

    def read(self, name: str, query: Mapping[str, str]) -> Stored:
        """The object that a request means, if its preconditions hold."""
        stored = self.find(name)
        wanted = query.get("generation")
        if stored is None or (wanted is not None and wanted != str(stored.generation)):
            raise GcsError(404, "notFound", f"No such object: {self.name}/{name}")
        check_preconditions(stored, query, reading=True)
        return stored

    def names(self, prefix: str, start: str) -> Iterator[str]:
        """In order, from `start` on; those that begin with `prefix`."""

        def own() -> Iterator[str]:
            positions = range(bisect_left(self._names, max(prefix, start)), len(self._names))
            return takewhile(lambda name: name.startswith(prefix), map(self._names.__getitem__, positions))

        if not self.generators:
            return own()
        generated = [generator.names(self.name, prefix, max(prefix, start)) for generator in self.generators]
        return _without_repeats(merge(own(), *generated))

    # --- writing

    def write(
        self,
        name: str,
        content: Content,
        query: Mapping[str, str],
        settings: Mapping[str, Any],
        *,
        components: int | None = None,
        known_crc32c: str | None = None,
    ) -> Stored:
        """Create or replace an object, if the preconditions hold and the checksums that were sent are right."""
        self.check_write(name, query)
        crc32c, md5 = digests(content, known_crc32c)
        if settings.get("crc32c", crc32c) != crc32c or (md5 is not None and settings.get("md5Hash", md5) != md5):
            raise GcsError(400, "invalid", f"Provided checksum doesn't match calculated checksum for {name}.")
        now_us = self._clock()
        self._last_generation = max(self._last_generation + 1, now_us)
        kept = {key: settings[key] for key in SETTABLE if settings.get(key) is not None}
        when = _time(now_us)
        md5 = md5 if components is None else None
        stored = Stored(name, content, self._last_generation, when, when, crc32c, md5, 1, components, kept)
        self._put(stored)
        self._note(stored)
        return stored

    def check_write(self, name: str, query: Mapping[str, str]) -> None:
        """Raises what a write would be answered with, as things stand."""
        if not name or len(name.encode()) > 1024 or "\n" in name or "\r" in name:
            raise GcsError(400, "invalid", "Invalid object name.")
        check_preconditions(self._objects.get(name), query, reading=False)

    def patch(self, name: str, query: Mapping[str, str], settings: Mapping[str, Any]) -> Stored:
        """Change what is said of an object."""
        stored = self.read(name, query)
        stored.settings.update({key: settings[key] for key in SETTABLE if key in settings})
        stored.metageneration += 1
        stored.updated = _time(self._clock())
        self._note(stored)
        return stored

    def delete(self, name: str, query: Mapping[str, str]) -> None:
        """Remove an object."""
        stored = self.read(name, query)
        if name in self._objects:
            del self._objects[name]
            del self._names[bisect_left(self._names, name)]
            self._append({"name": name, "deleted": stored.generation})
            stored.content.discard()

    def __len__(self) -> int:
        return len(self._objects)

    def _put(self, stored: Stored) -> None:
        replaced = self._objects.get(stored.name)
        if replaced is None:
            insort(self._names, stored.name)
        else:
            replaced.content.discard()
        self._objects[stored.name] = stored

    # --- the journal

    def _note(self, stored: Stored) -> None:
        if isinstance(stored.content, FileContent):
            self._append({**vars(stored), "content": stored.content.path.name})

    def _append(self, record: dict[str, Any]) -> None:
        if self._journal is not None:
            with self._journal.open("a") as file:
                file.write(json.dumps(record) + "\n")

    def _replay(self, journal: Path) -> None:
        for line in journal.read_text().splitlines():
            record = json.loads(line)
            if "deleted" in record:
                self._objects.pop(record["name"], None)
                continue
            path = journal.parent / "contents" / record.pop("content")
            if path.exists():
                self._objects[record["name"]] = Stored(**record, content=FileContent(path))
                self._last_generation = max(self._last_generation, record["generation"])
        self._names = sorted(self._objects)


def _made_up(name: str, content: Content, created: str) -> Stored:
    return Stored(name, content, 1, created, created, "", None)


def _without_repeats(names: Iterator[str]) -> Iterator[str]:
    last = None
    for name in names:
        if name != last:
            yield name
        last = name


def check_preconditions(stored: Stored | None, query: Mapping[str, str], *, reading: bool) -> None:
    """Raises GcsError where one does not hold: 412, or 304 for a reader who has what is there."""
    generation = str(stored.generation) if stored else "0"
    metageneration = str(stored.metageneration) if stored else "0"
    for parameter, actual in (("ifGenerationMatch", generation), ("ifMetagenerationMatch", metageneration)):
        if query.get(parameter, actual) != actual:
            raise precondition_failed()
    for parameter, actual in (("ifGenerationNotMatch", generation), ("ifMetagenerationNotMatch", metageneration)):
        if query.get(parameter) == actual:
            raise GcsError(304, "notModified", "") if reading else precondition_failed()


class Buckets:
    """All buckets of a server."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._buckets: dict[str, Bucket] = {}
        self._last_us = 0
        self.storage: Storage = MemoryStorage() if folder is None else FolderStorage(folder / "contents")
        for journal in sorted(folder.glob("*.journal")) if folder else ():
            self.create(journal.stem)

    def create(self, name: str) -> Bucket:
        """A new bucket. Raises GcsError if there is one."""
        if name in self._buckets:
            raise GcsError(409, "conflict", "Your previous request to create the named bucket succeeded.")
        journal = self._folder / f"{name}.journal" if self._folder else None
        self._buckets[name] = Bucket(name, self._clock, journal)
        if journal is not None:
            journal.touch()
        return self._buckets[name]

    def __getitem__(self, name: str) -> Bucket:
        try:
            return self._buckets[name]
        except KeyError:
            raise GcsError(404, "notFound", "The specified bucket does not exist.") from None

    def __contains__(self, name: str) -> bool:
        return name in self._buckets

    def __iter__(self) -> Iterator[Bucket]:
        return iter(self._buckets.values())

    def delete(self, name: str) -> None:
        """Remove an empty bucket."""
        if len(self[name]):
            raise GcsError(409, "conflict", "The bucket you tried to delete is not empty.")
        del self._buckets[name]

    def _clock(self) -> int:
        """Microseconds since 1970, never twice the same."""
        self._last_us = max(self._last_us + 1, time.time_ns() // 1_000)
        return self._last_us
