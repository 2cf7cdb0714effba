"""Refs: branches, tags and subsets, and the log segments that hold a long history.

A ref is a checked note (`fsd.format.checked`). It is the only object that names anything and is ever rewritten, by
compare-and-swap, and so it carries its own history: its last moves, and the index of older, immutable segments.

A *subset* ref maps commits to subsets: each move says for which commit (`source`) which subset object (`commit`) holds.
The last move for a commit counts. `follow` names branches whose new commits get a subset by the same rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NamedTuple

from fsd.errors import CorruptDataError
from fsd.format.checked import decode_checked, encode_checked
from fsd.format.fields import (
    as_free_mapping,
    as_id,
    as_integer,
    as_list,
    as_mapping,
    as_text,
    as_time,
    decode_json_value,
    encode_json,
    member,
)
from fsd.format.keys import ObjectKind
from fsd.format.limits import MAX_REF_BYTES, MAX_SEGMENT_BYTES

MAX_MOVES = 128
"""A ref with more moves than this puts the older half into a segment."""

MAX_SUMMARY_CHARACTERS = 120


class RefKind(StrEnum):
    """What a name stands for. The values are the format's."""

    BRANCH = "branch"
    TAG = "tag"
    SUBSET = "subset"


class Move(NamedTuple):
    """One change of a ref."""

    commit: bytes
    """What it names since then: a commit, or of a subset ref the subset."""
    time_us: int
    summary: str = ""
    """The first line of the commit's message, cut to MAX_SUMMARY_CHARACTERS."""
    source: bytes | None = None
    """Of a subset ref: the commit that the subset was taken from."""


class SegmentInfo(NamedTuple):
    """An older part of a history, in an object of its own."""

    id: bytes
    first_us: int
    last_us: int
    moves: int


@dataclass(frozen=True, slots=True)
class Ref:
    """A branch, tag or subset with its history, oldest first."""

    kind: RefKind
    moves: tuple[Move, ...]
    """The last moves; never empty."""
    segments: tuple[SegmentInfo, ...] = ()
    follow: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Of a subset ref: rule by branch."""

    @property
    def target(self) -> bytes:
        """The commit that a branch or tag names now."""
        return self.moves[-1].commit

    def subset_of(self, commit: bytes) -> bytes | None:
        """Of a subset ref: the subset object for `commit`, as far as the last moves know."""
        return next((move.commit for move in reversed(self.moves) if move.source == commit), None)

    def moved(self, move: Move) -> Ref:
        """This ref after one more move."""
        return replace(self, moves=(*self.moves, move))

    def overflow(self) -> tuple[Move, ...]:
        """The moves that belong into a segment before this ref is written; () for most."""
        return self.moves[: len(self.moves) // 2] if len(self.moves) > MAX_MOVES else ()

    def with_segment(self, segment: bytes, moves: tuple[Move, ...]) -> Ref:
        """This ref with its oldest moves, `moves`, in the segment of that id."""
        info = SegmentInfo(segment, moves[0].time_us, moves[-1].time_us, len(moves))
        return replace(self, moves=self.moves[len(moves) :], segments=(*self.segments, info))


def encode_ref(ref: Ref) -> bytes:
    """The bytes of a ref. Raises ValueError where it is too long, or a reader would refuse it."""
    body: dict[str, Any] = {"kind": str(ref.kind), "moves": [_encode_move(move) for move in ref.moves]}
    if ref.segments:
        body["segments"] = [info._asdict() | {"id": info.id.hex()} for info in ref.segments]
    if ref.follow:
        body["follow"] = {branch: dict(rule) for branch, rule in ref.follow.items()}
    encoded = encode_checked(body, "a ref", MAX_REF_BYTES)
    _parse_body(decode_checked(encoded, "a ref", MAX_REF_BYTES))
    return encoded


def parse_ref(data: bytes, what: str) -> Ref:
    """The ref. `what` names it in errors. Raises CorruptDataError."""
    body = decode_checked(data, what, MAX_REF_BYTES)
    try:
        return _parse_body(body)
    except ValueError as error:
        raise CorruptDataError(f"{what} cannot be read: {error}") from error


def _parse_body(body: dict[str, Any]) -> Ref:
    ref = Ref(
        kind=RefKind(as_text(member(body, "kind"), "kind")),
        moves=tuple(_parse_move(move) for move in as_list(member(body, "moves"), "moves")),
        segments=tuple(_parse_segment_info(info) for info in as_list(body.get("segments", []), "segments")),
        follow={
            branch: as_free_mapping(rule, "a rule")
            for branch, rule in as_mapping(body.get("follow", {}), "follow").items()
        },
    )
    if not ref.moves:
        raise ValueError("it names nothing")
    if any((move.source is None) == (ref.kind is RefKind.SUBSET) for move in ref.moves):
        raise ValueError("a move of a subset without its commit, or of another kind with one")
    return ref


def encode_segment(moves: tuple[Move, ...]) -> bytes:
    """The logical part of a log segment: the magic, then a JSON list of moves. Raises ValueError."""
    logical = ObjectKind.SEGMENT.value + encode_json([_encode_move(move) for move in moves])
    if len(logical) > MAX_SEGMENT_BYTES:
        raise ValueError(f"a log segment of {len(logical)} bytes")
    return logical


def parse_segment(logical: bytes) -> tuple[Move, ...]:
    """The moves of a log segment, oldest first. Raises CorruptDataError."""
    magic = ObjectKind.SEGMENT.value
    if not logical.startswith(magic):
        raise CorruptDataError("a log segment is without its magic")
    try:
        moves = as_list(decode_json_value(logical[len(magic) :]), "the whole")
        return tuple(_parse_move(move) for move in moves)
    except ValueError as error:
        raise CorruptDataError(f"a log segment cannot be read: {error}") from error


def _encode_move(move: Move) -> dict[str, Any]:
    body: dict[str, Any] = {"commit": move.commit.hex(), "time_us": move.time_us}
    if move.summary:
        body["summary"] = move.summary[:MAX_SUMMARY_CHARACTERS]
    if move.source is not None:
        body["source"] = move.source.hex()
    return body


def _parse_move(value: object) -> Move:
    body = as_mapping(value, "a move")
    source = body.get("source")
    return Move(
        as_id(member(body, "commit"), "commit"),
        as_time(member(body, "time_us"), "time_us"),
        as_text(body.get("summary", ""), "summary", MAX_SUMMARY_CHARACTERS),
        None if source is None else as_id(source, "source"),
    )


def _parse_segment_info(value: object) -> SegmentInfo:
    body = as_mapping(value, "a segment")
    return SegmentInfo(
        as_id(member(body, "id"), "id"),
        as_time(member(body, "first_us"), "first_us"),
        as_time(member(body, "last_us"), "last_us"),
        as_integer(member(body, "moves"), "moves"),
    )
