"""Leases: who is publishing at the moment, so that gc takes nothing away that they are about to name."""

from __future__ import annotations

from typing import NamedTuple

from fsd.errors import CorruptDataError
from fsd.format.checked import decode_checked, encode_checked
from fsd.format.fields import as_integer, as_text, as_time, member

MAX_LEASE_BYTES = 4096
MAX_WORDS_CHARACTERS = 200
MAX_VALID_S = 7 * 86_400


class Lease(NamedTuple):
    """What is written down of a publisher."""

    who: str
    """For people: a process and its machine."""
    purpose: str
    since_us: int
    """By the publisher's clock, for people alone."""
    valid_s: int
    """How long the lease holds after it was written last, by the store's clock."""
    renewals: int = 0


def encode_lease(lease: Lease) -> bytes:
    """The bytes of a lease; words that are too long are cut."""
    words = {"who": lease.who[:MAX_WORDS_CHARACTERS], "purpose": lease.purpose[:MAX_WORDS_CHARACTERS]}
    return encode_checked({**lease._asdict(), **words}, "a lease", MAX_LEASE_BYTES)


def parse_lease(data: bytes, what: str) -> Lease:
    """The lease. `what` names it in errors. Raises CorruptDataError."""
    body = decode_checked(data, what, MAX_LEASE_BYTES)
    try:
        return Lease(
            as_text(member(body, "who"), "who", MAX_WORDS_CHARACTERS),
            as_text(member(body, "purpose"), "purpose", MAX_WORDS_CHARACTERS),
            as_time(member(body, "since_us"), "since_us"),
            as_integer(member(body, "valid_s"), "valid_s", 1, MAX_VALID_S),
            as_integer(body.get("renewals", 0), "renewals"),
        )
    except ValueError as error:
        raise CorruptDataError(f"{what} cannot be read: {error}") from error
