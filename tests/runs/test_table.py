"""Runs side by side."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from fsd.errors import NotFoundError, UsageError
from fsd.format.run import RunProcess
from fsd.repo.runs import Run
from fsd.runs.process import is_alive, this_process
from fsd.runs.table import (
    Row,
    State,
    changed_columns,
    columns_of,
    filtered,
    find_column,
    ordered,
    parse_condition,
    row_of,
    state_of,
)
from tests.format.test_run import END, START

ROWS: list[Row] = [
    {"run": "a", "params.lr": 0.1, "params.fast": True, "params.seed": 1, "metrics.acc": 0.9},
    {"run": "b", "params.lr": 0.01, "params.fast": False, "params.seed": 1, "metrics.acc": 0.8},
    {"run": "c", "params.lr": "auto", "params.seed": 1},
]


def names(rows: list[Row]) -> str:
    return "".join(str(row["run"]) for row in rows)


def test_a_row_has_all_that_is_known() -> None:
    row = row_of(Run(START, END))
    assert row["params.train.lr"] == 0.1
    assert row["params.depth"] == 3, "the command told of it itself"
    assert row["metrics.accuracy"] == 0.9
    assert (row["pins.data"], row["pins.gone"]) == ((b"p" * 32).hex(), None)
    assert (row["seconds"], row["command"], row["state"]) == (100.0, "python train.py", "done")


def test_how_far_a_run_got() -> None:
    assert state_of(Run(START, END)) is State.DONE
    for end in (replace(END, code=1), replace(END, code=None, signal=9), replace(END, problems=("x",))):
        assert state_of(Run(START, end)) is State.FAILED
    assert state_of(Run(START, replace(END, interrupted=True))) is State.INTERRUPTED
    ours = this_process()
    for process, state in (
        (ours, State.RUNNING),
        (ours._replace(started_ticks=ours.started_ticks + 1), State.KILLED),
        (ours._replace(boot="an earlier one"), State.KILLED),
        (ours._replace(host="another"), State.UNKNOWN),
    ):
        assert state_of(Run(replace(START, process=process), None)) is state


def test_a_process_that_has_ended_is_not_alive() -> None:
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(pid, 0)
    ours = this_process()
    assert is_alive(RunProcess(ours.host, ours.boot, pid, 1)) is False


def test_only_what_differs_is_worth_a_column() -> None:
    assert changed_columns(ROWS) == ["run", "params.fast", "params.lr", "metrics.acc"]
    assert changed_columns(ROWS[:1]) == ["metrics.acc"]
    assert changed_columns([{"params.a": 1}, {"params.a": True}]) == ["params.a"]
    assert changed_columns([{"params.a": None}, {}]) == ["params.a"]
    assert changed_columns([{"params.a": 1}, {"params.a": 1.0}]) == []
    assert changed_columns([]) == []
    assert columns_of(ROWS)[-4:] == ["params.fast", "params.lr", "params.seed", "metrics.acc"]


def test_columns_are_found_by_their_own_names() -> None:
    columns = ["time", "params.lr", "params.acc", "metrics.acc"]
    assert find_column(columns, "lr") == "params.lr"
    assert find_column(columns, "metrics.acc") == "metrics.acc"
    assert find_column(columns, "time") == "time"
    with pytest.raises(UsageError, match=r"params\.acc or metrics\.acc"):
        find_column(columns, "acc")
    with pytest.raises(NotFoundError, match=r"'lrr'.*did you mean 'lr'"):
        find_column(columns, "lrr")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("lr=0.1", "a"),
        ("lr==1e-1", "a"),
        ("lr!=0.1", "bc"),
        ("lr<0.1", "b"),
        ("lr<=0.1", "ab"),
        ("params.lr = auto", "c"),
        ("acc>0.8", "a"),
        ("acc>=0.8", "ab"),
        ("acc!=0.9", "bc"),
        ("fast=true", "a"),
        ("fast!=true", "bc"),
        ("fast=1", ""),
        ("run=a", "a"),
    ],
)
def test_conditions(text: str, left: str) -> None:
    assert names(filtered(ROWS, [parse_condition(text)])) == left


def test_all_conditions_must_hold() -> None:
    assert names(filtered(ROWS, map(parse_condition, ["seed=1", "lr<1", "acc<0.9"]))) == "b"
    assert filtered([], [parse_condition("whatever=1")]) == []


@pytest.mark.parametrize("text", ["lr", "=1", "lr<fast", ""])
def test_what_is_no_condition(text: str) -> None:
    with pytest.raises(UsageError):
        parse_condition(text)


def test_order() -> None:
    assert names(ordered(ROWS, "metrics.acc")) == "bac"
    assert names(ordered(ROWS, "metrics.acc", descending=True)) == "abc", "what has no value is last all the same"
    assert names(ordered(ROWS, "params.lr")) == "bac"
