"""What attribution says of logs whose truth is known, as the tables of docs/attribution.md."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

from explained import Answer, from_planned_runs, from_the_log
from judging import Other, Verdict, ask_others, judge
from scenarios import SCENARIOS, Scenario
from tables import explained_table, other_table, report_tables, write

SIZES = (5, 8, 10, 12, 15, 20, 30, 50, 100, 200)
LARGE = 100
"""Of logs so large there are a quarter as many; and half as many where something matters: a rate of false positives is
what has to be known most closely."""
EXPLAINED_SIZES = (20, 50, 0)
OTHER_SIZES = (10, 20, 50)
OTHER_LOGS = 20
"""A forest takes a second."""
DOCS = Path(__file__).parents[2] / "docs" / "attribution.md"

Question = tuple[str, int, int]
"""The name of a scenario, a number of runs, and a seed."""
T = TypeVar("T")


def main() -> None:
    """Simulate, print the tables, and with --write put them into the documentation."""
    parser = argparse.ArgumentParser(prog="script/attribution", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the logs: the tables are rough")
    parser.add_argument("--logs", type=int, help="of each kind (default: 300, or 30)")
    parser.add_argument("--only", default="", help="scenarios whose name contains this")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: %(default)s)")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/attribution.md")
    options = parser.parse_args()
    logs = options.logs or (30 if options.quick else 300)
    chosen = [scenario for scenario in SCENARIOS if options.only in scenario.name]
    searched = [one for one in chosen if not one.by_hand and one.digits is None and not one.tied]
    with ProcessPoolExecutor(options.jobs) as pool:

        def ask(
            work: Callable[[Question], T], scenarios: Iterable[Scenario], sizes: Sequence[int], count: Counter
        ) -> dict[tuple[str, int], list[T]]:
            found = {}
            for scenario in scenarios:
                for n in sizes:
                    print(f"{scenario.name}, {n} runs", file=sys.stderr)
                    questions = [(scenario.name, n, seed) for seed in range(count(scenario, n))]
                    found[scenario.name, n] = list(pool.map(work, questions, chunksize=max(1, len(questions) // 16)))
            return found

        few = min(OTHER_LOGS, logs)
        quiet = [scenario for scenario in searched if "tails" not in scenario.name]
        tables = {
            "reports": report_tables(chosen, ask(judge_one, chosen, SIZES, lambda *what: logs_of(logs, *what))),
            "explained": explained_table(ask(explain_one, searched, EXPLAINED_SIZES, lambda *_: logs)),
            "others": other_table(quiet, ask(ask_one, quiet, OTHER_SIZES, lambda *_: few)),
        }
    for name, text in tables.items():
        print(f"\n{text}")
        if options.write:
            write(DOCS, name, text)


Counter = Callable[[Scenario, int], int]


def logs_of(logs: int, scenario: Scenario, n: int) -> int:
    """How many logs of one kind and size are asked about."""
    return max(1, (logs // 4 if n >= LARGE else logs) // (2 if scenario.matter else 1))


def judge_one(question: Question) -> Verdict:
    """In a process of its own."""
    name, n, seed = question
    return judge(named(name), n, seed)


def explain_one(question: Question) -> Answer:
    """In a process of its own; of a log of no runs, those are run that are planned."""
    name, n, seed = question
    return from_the_log(named(name), n, seed) if n else from_planned_runs(named(name), seed)


def ask_one(question: Question) -> list[Other]:
    """In a process of its own."""
    name, n, seed = question
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ask_others(named(name), n, seed)


def named(name: str) -> Scenario:
    """Functions of a scenario cannot be sent to a process; its name can."""
    return next(scenario for scenario in SCENARIOS if scenario.name == name)


if __name__ == "__main__":
    main()
