"""Rules of subsets: which files of a tree are in. Pure: told of paths, and nothing of stores.

What a rule means, in this order:

1. All directories are in. Symlinks count as files.
2. What `keep` matches is in, always.
3. Of the other files, the *candidates* are those that `paths` names (itself, or a directory above it), that `include`
   matches and that `exclude` does not; each of the three only if it is given.
4. Candidates are in by their hash. `sample_percent` P: those whose hash is among the least P percent of all numbers.
   `per_dir` N: of what is left in each directory, the N of least hash. `limit` N: of what is left, the N of least hash.

The hash is that of the seed (in decimal), a NUL, and the path without its extensions: the first 8 bytes of the BLAKE3,
as a little-endian number. An extension is a '.' (not a name's first character), a letter and at most 15 letters and
digits; a name can end in several. What begins with a digit is none, for frames, dates and identifiers have dots as
well: `run.0001.png` loses `.png` alone. So `x.jpg` and `x.json`, in one directory, have one hash and are in or out
together; where the Nth file of a `limit` or `per_dir` has such companions they come along, and it is a few more than N.
The hash depends on nothing else: 1% is a part of 10%, limit 10 of limit 100, and what is sampled stays so however the
dataset grows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from blake3 import blake3

from fsd.errors import UsageError
from fsd.format.keys import is_builtin_subset
from fsd.ids import content_id
from fsd.repo.globs import Globs, decode_path, encode_path

MAX_DECIMALS = 6
"""Of a percentage: one file in a hundred million."""

MAX_STORED_PATHS_BYTES = 256 * 1024
"""A list of paths whose JSON is longer is stored as its hash alone: the subset's tree stands, but its rule cannot be
applied anew."""

_HASH_RANGE = 1 << 64
_PERCENT_UNITS = 1_000_000
"""Of a percent: what MAX_DECIMALS can tell apart."""
_MAX_COUNT = 1 << 53
_EXTENSIONS = re.compile(rb"(?:\.[A-Za-z][A-Za-z0-9]{0,15})+\Z")
_PERCENT = re.compile(r"[0-9]{1,3}(\.[0-9]{1,6})?\Z", re.ASCII)


def stem_hash(seed: int, directory: bytes, name: bytes) -> int:
    """The 64 bits by which a path is sampled."""
    extensions = _EXTENSIONS.search(name, 1)
    stem = name[: extensions.start()] if extensions else name
    path = b"%d\0%b/%b" % (seed, directory, stem) if directory else b"%d\0%b" % (seed, stem)
    return int.from_bytes(blake3(path).digest(8), "little")


@dataclass(frozen=True, slots=True)
class Rule:
    """How a subset's files are chosen. Equal rules choose alike; the order in which patterns are given is none of it.

    Raises UsageError for numbers out of range, and malformed patterns.
    """

    sample_percent: Decimal | None = None
    """Between 0 and 100, with at most 6 decimals."""
    limit: int | None = None
    per_dir: int | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    """Patterns: see `fsd.repo.globs`."""
    paths: tuple[bytes, ...] | None = None
    """Files, and directories with all below them; without '/' in front and at the end."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("include", "exclude", "keep"):
            patterns = tuple(sorted(set(getattr(self, name))))
            Globs(patterns)
            object.__setattr__(self, name, patterns)
        if self.paths is not None:
            object.__setattr__(self, "paths", tuple(sorted({path.strip(b"/") for path in self.paths} - {b""})))
        if self.sample_percent is not None:
            object.__setattr__(self, "sample_percent", _check_percent(self.sample_percent))
        for name in ("limit", "per_dir"):
            number = getattr(self, name)
            if number is not None and not 0 < number < _MAX_COUNT:
                raise UsageError(f"{name.replace('_', '-')} {number} is out of range", hint="give a number above 0")

    @property
    def per_entry(self) -> bool:
        """Whether an entry's path alone decides: then the rule can be applied while reading."""
        return self.limit is None and self.per_dir is None

    @property
    def sample_below(self) -> int:
        """Hashes below this are sampled."""
        if self.sample_percent is None:
            return _HASH_RANGE
        return int(self.sample_percent * _PERCENT_UNITS) * _HASH_RANGE // (100 * _PERCENT_UNITS)

    def to_json(self) -> dict[str, Any]:
        """Canonical: equal rules give equal JSON. What is not given is left out."""
        body: dict[str, Any] = {}
        if self.sample_percent is not None:
            body["sample_percent"] = str(self.sample_percent)
        if self.limit is not None:
            body["limit"] = self.limit
        if self.per_dir is not None:
            body["per_dir"] = self.per_dir
        for name, patterns in (("include", self.include), ("exclude", self.exclude), ("keep", self.keep)):
            if patterns:
                body[name] = [_text_to_json(pattern) for pattern in patterns]
        if self.paths is not None:
            body["paths"] = _paths_to_json(self.paths)
        if self.seed:
            body["seed"] = self.seed
        return body

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Rule:
        """The rule. Raises UsageError for nonsense, and for members that this version does not know: it would choose
        other files than were meant."""
        known = {"sample_percent", "limit", "per_dir", "include", "exclude", "keep", "paths", "seed"}
        if unknown := sorted(set(body) - known):
            raise UsageError(f"a subset's rule has unknown parts: {', '.join(unknown)}", hint="install a newer fsd")
        try:
            patterns = {
                name: tuple(map(_text_from_json, body.get(name, ()))) for name in ("include", "exclude", "keep")
            }
            percent, paths = body.get("sample_percent"), body.get("paths")
            return cls(
                sample_percent=None if percent is None else Decimal(percent),
                limit=None if body.get("limit") is None else int(body["limit"]),
                per_dir=None if body.get("per_dir") is None else int(body["per_dir"]),
                paths=None if paths is None else _paths_from_json(paths),
                seed=int(body.get("seed", 0)),
                **patterns,
            )
        except (ValueError, TypeError, KeyError, AttributeError, InvalidOperation) as error:
            raise UsageError(f"a subset's rule cannot be read: {error!r}") from error


class Matcher:
    """A rule made ready to be asked. What needs to know all files (`limit`, `per_dir`) is not decided here."""

    def __init__(self, rule: Rule) -> None:
        self._seed = rule.seed
        self._sample_below = rule.sample_below
        self._include = Globs(rule.include) if rule.include else None
        self._exclude = Globs(rule.exclude) if rule.exclude else None
        self._keep = Globs(rule.keep) if rule.keep else None
        self._paths = None if rule.paths is None else frozenset(rule.paths)
        self._directory: bytes | None = None
        self._directory_listed = False

    def kept(self, directory: bytes, name: bytes) -> bool:
        """Whether the file is in, whatever else the rule says."""
        return self._keep is not None and self._keep.match(directory, name)

    def candidate_hash(self, directory: bytes, name: bytes) -> int | None:
        """The hash of a file that is a candidate and sampled; None for any other."""
        found = stem_hash(self._seed, directory, name)
        if found >= self._sample_below:
            return None
        if self._paths is not None and not self._listed(directory, name):
            return None
        if self._include is not None and not self._include.match(directory, name):
            return None
        if self._exclude is not None and self._exclude.match(directory, name):
            return None
        return found

    def selects(self, directory: bytes, name: bytes) -> bool:
        """Whether a rule that is `per_entry` has the file in."""
        return self.candidate_hash(directory, name) is not None or self.kept(directory, name)

    def _listed(self, directory: bytes, name: bytes) -> bool:
        assert self._paths is not None
        if directory != self._directory:
            parts = directory.split(b"/") if directory else []
            self._directory = directory
            self._directory_listed = any(b"/".join(parts[:depth]) in self._paths for depth in range(1, len(parts) + 1))
        return self._directory_listed or (directory + b"/" + name if directory else name) in self._paths


def parse_percent(text: str) -> Decimal:
    """A percentage as it is typed: '1', '0.5', '10%'. Raises UsageError."""
    digits = text.removesuffix("%")
    if _PERCENT.match(digits) is None:
        raise UsageError(
            f"{text!r} is not a percentage", hint=f"write 10% or 0.5%, with at most {MAX_DECIMALS} decimals"
        )
    return _check_percent(Decimal(digits))


def parse_builtin(name: str, keep: tuple[str, ...]) -> Rule | None:
    """The rule of a built-in subset such as `10pct` or `0.5pct`; None for another name.

    `keep` is the store's default. Raises UsageError for a percentage that cannot be.
    """
    return Rule(sample_percent=parse_percent(name.removesuffix("pct")), keep=keep) if is_builtin_subset(name) else None


def _check_percent(percent: Decimal) -> Decimal:
    """The percentage without trailing zeros."""
    if not percent.is_finite() or not 0 < percent < 100 or percent * _PERCENT_UNITS % 1:
        raise UsageError(
            f"{percent}% is not a sample",
            hint=f"give a percentage between 0 and 100, with at most {MAX_DECIMALS} decimals",
        )
    return Decimal(f"{percent.normalize():f}")


def _text_to_json(text: str) -> str | dict[str, str]:
    """JSON is UTF-8, names need not be."""
    data = encode_path(text)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"hex": data.hex()}


def _text_from_json(body: str | Mapping[str, str]) -> str:
    return body if isinstance(body, str) else decode_path(bytes.fromhex(body["hex"]))


def _paths_to_json(paths: tuple[bytes, ...]) -> list[str | dict[str, str]] | dict[str, Any]:
    body = [_text_to_json(decode_path(path)) for path in paths]
    if len(json.dumps(body, ensure_ascii=False).encode()) <= MAX_STORED_PATHS_BYTES:
        return body
    return {"count": len(paths), "blake3": content_id(b"\0".join(paths)).hex()}


def _paths_from_json(body: Any) -> tuple[bytes, ...]:
    if isinstance(body, Mapping):
        raise UsageError(
            f"the list of this subset's {body['count']} paths was too long to be stored",
            hint="create the subset anew from the list",
        )
    return tuple(encode_path(_text_from_json(path)) for path in body)
