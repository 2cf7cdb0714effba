"""What goes wrong between a mount and its bucket, one thing after the other, with calm in between."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass, field

from integration.gcs_server.faults import Action, Fault, FlipBit, Lengthen, Reset, Slow, Stall, Status, Truncate
from integration.gcs_server.server import GcsServer


@dataclass(frozen=True)
class Kind:
    """A sort of weather."""

    name: str
    actions: tuple[tuple[Action, float], ...] = ()
    """Each with the share of requests that it happens to."""
    is_away: bool = False
    """Nobody listens where the server was."""
    may_fail_reads: bool = False
    """Whether it explains an EIO: what is damaged twice in a row is given up at once. All else is waited for, much
    longer than it lasts."""


CALM = Kind("calm")
KINDS = (
    Kind("latency", ((Slow(0.05), 0.5), (Slow(0.4), 0.2))),
    Kind("errors", ((Status(503), 0.06), (Status(429), 0.04), (Reset(), 0.04), (Reset(10_000), 0.03))),
    Kind("stalls", ((Stall(), 0.01), (Stall(10_000), 0.03))),
    Kind("corruption", ((FlipBit(0.3, 5), 0.03), (FlipBit(0.999), 0.03)), may_fail_reads=True),
    Kind("lengths", ((Truncate(1), 0.04), (Truncate(5000, honest=True), 0.03), (Lengthen(7), 0.03))),
    Kind("away", is_away=True),
)


@dataclass
class Spell:
    """A stretch of time with the same weather. Monotonic seconds."""

    kind: Kind
    began_s: float
    ended_s: float = float("inf")

    def overlaps(self, began_s: float, ended_s: float) -> bool:
        """Whether any of it lies in there."""
        return self.began_s <= ended_s and began_s <= self.ended_s


@dataclass
class Weather:
    """Makes it, and remembers what it was. What is remembered may be read from any thread."""

    server: GcsServer
    spell_s: float
    """How long each lasts; calm half as long."""
    spells: list[Spell] = field(default_factory=list)
    met: dict[str, int] = field(default_factory=dict)
    """How many requests each kind has hit."""

    def run(self, over: threading.Event) -> None:
        """Until that is set; then the server is well."""
        for kind in itertools.cycle(each for bad in KINDS for each in (CALM, bad)):
            if over.is_set():
                return
            self._spell(kind, over)

    def _spell(self, kind: Kind, over: threading.Event) -> None:
        spell = Spell(kind, time.monotonic())
        self.spells.append(spell)
        faults: list[Fault] = []
        try:
            if kind.is_away:
                self.server.stop()
            faults = [self.server.faults.add(action, probability=share) for action, share in kind.actions]
            over.wait(self.spell_s / 2 if kind is CALM else self.spell_s)
        finally:
            self.server.faults.clear()
            if kind.is_away:
                self.server.start()
        spell.ended_s = time.monotonic()
        self.met[kind.name] = self.met.get(kind.name, 0) + sum(fault.met for fault in faults)

    @property
    def now(self) -> str:
        """What it is like."""
        return self.spells[-1].kind.name if self.spells else CALM.name

    def during(self, began_s: float, ended_s: float) -> list[Kind]:
        """What it was like then."""
        return [spell.kind for spell in [*self.spells] if spell.overlaps(began_s, ended_s)]
