"""`script/fuzz`: hostile objects, by the million, for all who read them.

Exit code 1 if one case did not go as it must. Batches run in processes of their own, whose memory has a limit. A case
is made from its name (kind, seed, number) and so can be run again: `script/fuzz --case NAME`.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import trio

from tests.hostile.forging import warm_up
from tests.hostile.judging import Finding, Judge, Tally
from tests.hostile.kinds import KINDS
from tests.hostile.stores import opened
from tests.hostile.stuffing import stuffed

STORE, STUFFED = "store", "stuffed"
STORE_SHARE = 0.005
"""Of all cases, those that go through a whole reader: each is some hundred requests."""

STUFFED_SHARE = 0.0001
"""Those that are as large as can be: seconds each."""

BATCH = {STORE: 50, STUFFED: 10}
PARSER_BATCH = 4000
BATCH_S = 600.0
"""A batch that takes longer hangs where no signal ends it."""

WORKER_MEMORY_BYTES = 2 * 1024**3
"""Of address space, beyond what a process has at its beginning: what asks for more gets a MemoryError."""

TELL_S = 10.0


class Batch(NamedTuple):
    """Cases of one kind."""

    kind: str
    seed: int
    start: int
    count: int

    def names(self) -> Iterator[str]:
        """Of its cases."""
        return (f"{self.kind}/{self.seed}/{number}" for number in range(self.start, self.start + self.count))


def batches(cases: int, seed: int) -> list[Batch]:
    """All cases, shared out among the kinds."""
    counts = {STORE: round(STORE_SHARE * cases), STUFFED: round(STUFFED_SHARE * cases)}
    left = cases - sum(counts.values())
    shares = sum(kind.share for kind in KINDS)
    counts |= {kind.name: left * kind.share // shares for kind in KINDS}
    counts[KINDS[0].name] += cases - sum(counts.values())
    found = []
    for kind, count in counts.items():
        size = BATCH.get(kind, PARSER_BATCH)
        found += [Batch(kind, seed, start, min(size, count - start)) for start in range(0, count, size)]
    random.Random(seed).shuffle(found)
    return found


def prepare() -> None:
    """A worker's beginning."""
    logging.disable(logging.CRITICAL)
    warm_up()
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + WORKER_MEMORY_BYTES, resource.RLIM_INFINITY))


def run(batch: Batch) -> Tally:
    """All cases of a batch."""
    if batch.kind == STORE:
        return trio.run(_visit, batch)
    make = stuffed if batch.kind == STUFFED else next(kind.make for kind in KINDS if kind.name == batch.kind)
    judge = Judge()
    for name in batch.names():
        judge.run(batch.kind, name, make)
    return judge.tally


async def _visit(batch: Batch) -> Tally:
    with tempfile.TemporaryDirectory(prefix="fsd-fuzz-") as folder:
        async with opened(Path(folder) / "cache") as visitor:
            for name in batch.names():
                await visitor.visit(name)
            return visitor.tally


def run_all(todo: list[Batch], processes: int) -> tuple[Tally, Counter[str]]:
    """All batches, and how many cases each kind had."""
    total, by_kind = Tally(), Counter[str]()
    began_s = told_s = time.monotonic()
    cases = sum(batch.count for batch in todo)
    with ProcessPoolExecutor(processes, initializer=prepare) as pool:
        waiting: dict[Future[Tally], Batch] = {pool.submit(run, batch): batch for batch in todo}
        while waiting:
            done, _ = wait(waiting, timeout=BATCH_S, return_when=FIRST_COMPLETED)
            if not done:
                total.findings.append(Finding("?", "", f"nothing has come for {BATCH_S:g} s"))
                os._exit(_told(total, by_kind, began_s))
            for future in done:
                batch = waiting.pop(future)
                try:
                    total.add(future.result())
                    by_kind[batch.kind] += batch.count
                except BrokenProcessPool:
                    total.findings.append(Finding(batch.kind, f"{batch}", "the process died"))
                except Exception as error:
                    total.findings.append(Finding(batch.kind, f"{batch}", f"the batch broke off: {error!r:.300}"))
                    print(total.findings[-1], file=sys.stderr)
            if time.monotonic() - told_s > TELL_S:
                told_s = time.monotonic()
                print(
                    f"{told_s - began_s:6.0f} s  {total.cases:,} of {cases:,}, {len(total.findings)} findings",
                    file=sys.stderr,
                    flush=True,
                )
    return total, by_kind


def _told(total: Tally, by_kind: Counter[str], began_s: float) -> int:
    print(f"{total.cases:,} cases in {time.monotonic() - began_s:.0f} s, {total.refused:,} refusals")
    print("by kind: " + ", ".join(f"{kind} {count:,}" for kind, count in by_kind.most_common()))
    print(f"slowest: {total.slowest_s:.2f} s ({total.slowest}); a process grew by {total.grown_bytes / 2**20:.0f} MiB")
    for finding in total.findings[:50]:
        print("FINDING:", finding.kind, finding.seed, finding.what)
    print(f"{len(total.findings)} findings")
    return 1 if total.findings else 0


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="script/fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000, help="how many, of all kinds together")
    parser.add_argument("--seed", type=int, default=1, help="another one gives other cases")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="how many at once")
    parser.add_argument("--case", metavar="NAME", help="run just this one, as a finding names it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    arguments = parser.parse_args()
    if arguments.case:
        kind, seed, number = arguments.case.rsplit("/", 2)
        tally = run(Batch(kind, int(seed), int(number), 1))
        return _told(tally, Counter({kind: 1}), time.monotonic())
    began_s = time.monotonic()
    total, by_kind = run_all(batches(arguments.cases, arguments.seed), arguments.processes)
    if arguments.json:
        arguments.json.write_text(json.dumps({**asdict(total), "by_kind": by_kind}, indent=1))
    return _told(total, by_kind, began_s)


if __name__ == "__main__":
    sys.exit(main())
