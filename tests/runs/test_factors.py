"""Runs as trials: their factors, what kind each is, and which run another was derived from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from fsd.format.inputs import Inputs, VersionInputs
from fsd.format.positions import stretches_of
from fsd.format.run import RunName, RunPin, Scalar
from fsd.repo.runs import Run
from fsd.runs.attribution.steps import step_changes
from fsd.runs.attribution.trials import Role, Trial, Value
from fsd.runs.factors import distance, ends_of, parent_of, trials_of, unsuccessful, with_parents
from fsd.runs.table import Row, row_of
from tests.format.test_run import END, NAME, START

WHOLE = "4" * 64
HOUR_US = 3_600_000_000


def rows_of(*runs: Run) -> dict[RunName, Row]:
    return {run.start.name: row_of(run) for run in runs}


def run(number: int, acc: float | None, params: Mapping[str, Scalar], *, us: int | None = None, took: int = 60) -> Run:
    """A run that began `number` hours after the first, or `us` after it, and took so many seconds."""
    name = NAME._replace(run=f"{number:016x}")
    began = START.time_us + (number * HOUR_US if us is None else us)
    metrics = {} if acc is None else {"acc": acc}
    start = replace(START, name=name, time_us=began, params=dict(params), pins=())
    return Run(
        start, replace(END, name=name, time_us=began + took * 1_000_000, metrics=metrics, params={}, inputs=Inputs())
    )


def trial_of(found: Run) -> Trial:
    (trial,) = trials_of(rows_of(found))
    return trial


def test_params_seeds_code_and_command() -> None:
    trial = trial_of(run(1, 0.5, {"lr": 0.1, "train.seed": 3, "seedling": 1}))
    assert trial.id == f"{1:016x}"
    assert (trial.factors["lr"], trial.factors["command"], trial.factors["repository"]) == (
        0.1,
        "python train.py",
        "digits",
    )
    assert [trial.role(name) for name in ("lr", "seedling", "train.seed")] == [Role.PARAM, Role.PARAM, Role.SEED]
    assert [trial.role(name) for name in ("code", "command", "repository")] == [Role.CODE] * 3
    (declared,) = trials_of(rows_of(run(1, 0.5, {"shuffle": 2})), seeds=frozenset({"shuffle"}))
    assert declared.role("shuffle") is Role.SEED


def test_only_runs_that_succeeded_are_trials() -> None:
    good, bad = run(1, 0.5, {}), run(2, 0.6, {})
    assert bad.end is not None
    rows = rows_of(good, Run(bad.start, replace(bad.end, code=1)), Run(run(3, 0.7, {}).start, None))
    assert [trial.id for trial in trials_of(rows)] == [good.start.name.run]
    assert unsuccessful(rows.values()) == 2


def test_a_path_of_the_mount_is_data_and_its_subset_a_factor() -> None:
    trial = trial_of(run(1, 0.5, {"data": "/fsd/imagenet/v1.2+tiny/train", "out": "/tmp/x"}))
    assert (trial.factors["data"], trial.factors["data.subset"]) == ("imagenet/v1.2/train", "tiny")
    assert (trial.role("data"), trial.role("data.subset"), trial.role("out")) == (Role.DATA, Role.SUBSET, Role.PARAM)
    assert trial_of(run(1, 0.5, {"data": "/fsd/imagenet/v1.2"})).factors["data.subset"] is None


def test_pins_are_data_and_of_a_subset_the_base_is_the_version() -> None:
    done = run(1, 0.5, {})
    pins = (
        RunPin("data", "imagenet", WHOLE, "", bytes.fromhex(WHOLE)),
        RunPin("few", "imagenet", f"{WHOLE}+tiny", "train", b"s" * 32),
        RunPin("moving", "imagenet", "main", "", b"m" * 32),
    )
    trial = trial_of(Run(replace(done.start, pins=pins), done.end))
    assert trial.factors["pins.data"] == f"imagenet/{WHOLE[:12]}"
    assert (trial.factors["pins.few"], trial.factors["pins.few.subset"]) == (f"imagenet/{WHOLE[:12]}/train", "tiny")
    assert trial.factors["pins.moving"] == f"imagenet/{(b'm' * 32).hex()[:12]}"
    assert (trial.role("pins.few"), trial.role("pins.few.subset")) == (Role.DATA, Role.SUBSET)


def test_what_was_read_counts_unless_something_names_it() -> None:
    def factors(params: Mapping[str, Scalar], pins: tuple[RunPin, ...], *names: str) -> tuple[Value, ...]:
        done = run(1, 0.5, params)
        assert done.end is not None
        versions = tuple(VersionInputs("imagenet", name, b"i" * 32, stretches_of([0]), (), ()) for name in names)
        end = replace(done.end, inputs=Inputs(versions))
        trial = trial_of(Run(replace(done.start, pins=pins), end))
        return tuple(trial.factors.get(name) for name in ("inputs", "inputs.subset", "data", "data.subset"))

    commit = (b"i" * 32).hex()
    whole = f"imagenet/{commit[:12]}"
    assert factors({}, (), "v1") == (whole, None, None, None)
    assert factors({}, (), "v1+10pct") == ("imagenet/v1", "10pct", None, None)
    assert factors({}, (RunPin("data", "imagenet", "main", "", b"i" * 32),), commit) == (None,) * 4
    assert factors({"data": "/fsd/imagenet/v1"}, (), "v1") == (None, None, "imagenet/v1", None)
    # A branch moves: what was read counts.
    assert factors({"data": "/fsd/imagenet/main/train"}, (), commit) == (None, None, f"{whole}/train", None)
    assert factors({"data": "/fsd/imagenet/main+x"}, (), f"{commit}+x") == (None, None, whole, "x")
    assert factors({"data": "/fsd/imagenet/v1"}, (), "v1", "v2") == (whole, None, "imagenet/v1", None)


def test_commands_in_different_folders_are_told_apart() -> None:
    here, there = run(1, 0.5, {}), run(2, 0.5, {})
    there = Run(replace(there.start, name=there.start.name._replace(step="6" * 32)), there.end)
    commands = {trial.factors["command"] for trial in trials_of(rows_of(here, there))}
    assert len(commands) == 2


def parents(*runs: Run) -> dict[int, int | None]:
    rows = rows_of(*runs)
    trials, ends = trials_of(rows), ends_of(rows)
    found = {trial.id: parent_of(trial, trials, ends) for trial in trials}
    return {int(child, 16): None if parent is None else int(parent.id, 16) for child, parent in found.items()}


def test_who_goes_back_to_a_good_run_derives_from_that() -> None:
    found = parents(
        run(1, 0.5, {"lr": 0.1, "depth": 2}),
        run(2, 0.4, {"lr": 0.9, "depth": 2}),
        run(3, 0.6, {"lr": 0.1, "depth": 5}),
        run(4, 0.6, {"lr": 0.1, "depth": 5}),
    )
    assert found == {1: None, 2: 1, 3: 1, 4: 3}


def test_of_equally_near_ones_the_latest_and_seeds_count_for_nothing() -> None:
    found = parents(run(1, 0.5, {"lr": 0.1, "seed": 1}), run(2, 0.5, {"lr": 0.1, "seed": 2}), run(3, 0.6, {"lr": 0.2}))
    assert found[3] == 2


def test_what_had_not_ended_is_nobodys_parent() -> None:
    found = parents(run(1, 0.5, {"lr": 0.1}, took=3 * 3600), run(2, 0.6, {"lr": 0.2}), run(9, 0.6, {"lr": 0.3}))
    assert found == {1: None, 2: None, 9: 2}


def test_counting_ends_early() -> None:
    a, b = (trial_of(run(n, 0.5, dict.fromkeys("abcdef", n))) for n in (1, 2))
    assert (distance(a, b), distance(a, b, below=2)) == (6, 2)


SETTINGS = st.fixed_dictionaries(
    {"lr": st.sampled_from([0.1, 0.2]), "depth": st.integers(1, 3), "seed": st.integers(0, 1)}
)
LOGS = st.lists(
    st.tuples(
        SETTINGS,
        st.none() | st.floats(-1e6, 1e6),
        st.integers(0, 20),  # when it began, in minutes
        st.integers(0, 600),  # how long it took, in seconds
    ),
    min_size=1,
    max_size=25,
)


@given(LOGS)
def test_steps_sum_to_the_total_whatever_the_log(log: list[tuple[dict[str, Scalar], float | None, int, int]]) -> None:
    runs = [run(n, acc, params, us=at * 60_000_000, took=took) for n, (params, acc, at, took) in enumerate(log)]
    rows = rows_of(*runs)
    trials, ends = trials_of(rows), ends_of(rows)
    for last in [trial for trial in trials if trial.metric("acc") is not None]:
        report = step_changes(with_parents(trials, ends, "acc", last), "acc", to=last.id)
        scale = sum(abs(step.diff) for step in report.steps) + 1
        assert abs(sum(step.diff for step in report.steps) - report.total) <= 1e-9 * scale
        assert abs(sum(one.diff for one in report.contributions) - report.total) <= 1e-9 * scale
        assert all(ends[step.parent] <= next(t.time for t in trials if t.id == step.child) for step in report.steps)
