"""`fsd exp log`, `explain` and `importance`: which change moved a metric, by how much, and how sure that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import click

from fsd.runs.attribution.explaining import Explanation, explain
from fsd.runs.attribution.importance import Importance, importance
from fsd.runs.attribution.reports import Effect, Method, Outcome
from fsd.runs.attribution.reports import as_json as report_json
from fsd.runs.attribution.steps import Step, StepLog, step_changes
from fsd.runs.attribution.trials import Value, find
from fsd.runs.best import no_such_metric
from fsd.runs.factors import unsuccessful, with_parents
from fsd_cli.context import Invocation, pass_invocation
from fsd_cli.exp_completion import complete_run
from fsd_cli.exp_executing import run_missing
from fsd_cli.exp_runs import (
    Log,
    across_option,
    called,
    change_text,
    direction_options,
    is_less,
    metric_argument,
    metric_option,
    read_log,
    repository_argument,
    say_notes,
    seed_option,
    short_id,
    signed,
    where_option,
)
from fsd_cli.exp_values import plain
from fsd_cli.output import json_option, print_json, print_table, say
from fsd_cli.text import Column, count, shown

_log_option = click.option(
    "--log-scale", "log_params", metavar="PARAM", multiple=True, help="This param is logarithmic, if it is not evident."
)

# --- fsd exp log


@click.command("log")
@metric_argument
@repository_argument
@click.option("--to", metavar="RUN", help="The way to this run. Default: the latest.", shell_complete=complete_run)
@where_option
@seed_option
@json_option
@pass_invocation
def show_steps(
    invocation: Invocation,
    metric: str,
    repository: str,
    to: str | None,
    conditions: tuple[str, ...],
    seeds: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show how a metric came to be what it is: the exact change at each step from run to run.

    The steps sum to the total. A run's parent is the one that it was most likely derived from: of those that had ended
    before it began, the latest of those that differ from it in least.
    """
    log = read_log(invocation, repository, conditions, seeds)
    report = steps_to(log, metric, to)
    if as_json:
        print_json(report_json(report))
    else:
        _print_steps(report, log.names)


def steps_to(log: Log, metric: str, to: str | None) -> StepLog:
    """The way to a run, by default to the latest that has the metric. Raises NotFoundError, UsageError."""
    having = [trial for trial in log.trials if trial.metric(metric) is not None]
    if not having:
        raise no_such_metric(log.trials, metric)
    last = having[-1] if to is None else find(log.trials, log.find(to))
    return step_changes(with_parents(log.trials, log.ends, metric, last), metric, to=last.id)


def _print_steps(report: StepLog, names: Mapping[str, str]) -> None:
    start = f"{called(report.first, names)}"
    say(f"{shown(report.metric)} {plain(report.old)} → {plain(report.new)}: {signed(report.total)} from {start} to "
        f"{called(report.last, names)}, in {count(len(report.steps), 'step')}")  # fmt: skip
    if report.steps:
        columns = [Column("RUN"), Column(shown(report.metric), right=True), Column("CHANGE", right=True), Column("BY")]
        rows = [[called(report.first, names), plain(report.old), "", ""]]
        rows += [
            [called(step.child, names), plain(step.new), signed(step.diff), _step_text(step)] for step in report.steps
        ]
        print_table(columns, [*rows, ["total", "", signed(report.total), ""]])
    if len(report.contributions) > 1 or any(one.steps > 1 for one in report.contributions):
        say("in all:")
        for one in report.contributions:
            what = " + ".join(map(shown, one.params)) or "no change (chance)"
            say(f"  {signed(one.diff)}  {what}, in {count(one.steps, 'step')}")
    if report.noise_sd is None:
        say("note: no replicates: repeat a run with another seed to know what chance does")
    else:
        say(f"noise: {plain(report.noise_sd)} (standard deviation of one run, from replicates)")
    say_notes(report.notes)


def _step_text(step: Step) -> str:
    parts = [", ".join(change_text(change) for change in step.changes) or "nothing but chance"]
    if step.is_within_noise and step.changes:
        parts.append("(within noise)")
    if not step.is_comparable:
        parts.append(
            "(not comparable: " + ", ".join(sorted({str(c.role) for c in step.changes if c.role.is_context})) + ")"
        )
    return " ".join(parts)


# --- fsd exp explain


@click.command("explain")
@click.argument("old", metavar="RUN", shell_complete=complete_run)
@click.argument("new", metavar="RUN", shell_complete=complete_run)
@metric_option
@click.option("--run", "is_to_run", is_flag=True, help="Run what is missing for an answer without a model.")
@click.option("--dry-run", is_flag=True, help="Say what --run would run, and run nothing.")
@where_option
@seed_option
@_log_option
@json_option
@pass_invocation
def explain_runs(
    invocation: Invocation,
    old: str,
    new: str,
    metric: str,
    is_to_run: bool,
    dry_run: bool,
    conditions: tuple[str, ...],
    seeds: tuple[str, ...],
    log_params: tuple[str, ...],
    as_json: bool,
) -> None:
    """Divide the difference between two runs between the params in which they differ.

    Exact if every mixture of both was run, estimated by a model of all runs otherwise. --run runs the mixtures that are
    missing: the code as it is recorded, in a temporary folder, with the params of each. They are recorded as all runs
    are, and not run again.
    """

    def look() -> tuple[Log, Explanation]:
        log = read_log(invocation, "", conditions, seeds)
        report = explain(log.trials, log.find(old), log.find(new), metric, log=frozenset(log_params))
        return log, report

    log, report = look()
    if is_to_run and not dry_run:
        log, report = run_missing(invocation, look, log, report)
    if as_json:
        print_json(report_json(report))
    else:
        _print_explanation(report, log.names, has_run=is_to_run and not dry_run)
        if dry_run:
            _print_plan(report)


def _print_explanation(report: Explanation, names: Mapping[str, str], *, has_run: bool) -> None:
    say(f"{shown(report.metric)} {plain(report.old)} → {plain(report.new)}: {signed(report.diff)} from "
        f"{called(report.a, names)} to {called(report.b, names)}")  # fmt: skip
    match report.outcome:
        case Outcome.FOUND:
            assert report.method is not None
            say(f"{report.method}, from {count(report.n, 'run')}:")
            _print_effects(report.effects, share_of="SHARE")
            if report.method is Method.ESTIMATED:
                say(f"  {signed(report.unexplained)} is left unexplained")
        case Outcome.NOTHING_DIFFERS:
            say("nothing differs but chance")
        case Outcome.NOT_ENOUGH_EVIDENCE:
            say("not enough evidence to divide it between")
            for change in report.changes:
                say(f"  {change_text(change)}")
    for path in report.paths:
        steps = ", ".join(f"{shown(name)} {signed(diff)}" for name, diff in zip(path.order, path.diffs, strict=True))
        say(f"  from {called(path.start, names)}: {steps}")
    say_notes(report.notes)
    if report.plan.configurations and not has_run:
        more = count(report.plan.at_most, "run")
        say(f"fsd exp explain {short_id(report.a)} {short_id(report.b)} --metric {shown(report.metric)} --run: "
            f"an answer without a model takes {more} more at most")  # fmt: skip


def _print_plan(report: Explanation) -> None:
    for configuration in report.plan.configurations:
        values = ", ".join(f"{shown(name)}={plain(configuration.factors.get(name))}" for name in configuration.changed)
        say(f"would run {short_id(report.a)} with {values}")


# --- fsd exp importance


@click.command("importance")
@repository_argument
@metric_option
@where_option
@across_option
@seed_option
@_log_option
@direction_options
@json_option
@pass_invocation
def rank_params(
    invocation: Invocation,
    repository: str,
    metric: str,
    conditions: tuple[str, ...],
    across: tuple[str, ...],
    seeds: tuple[str, ...],
    log_params: tuple[str, ...],
    direction: str | None,
    as_json: bool,
) -> None:
    """Rank the params by what they do to a metric, over all runs that can be compared.

    These are the largest group of runs with the same code, data, subset and command; --across NAME makes one of these a
    factor like the params. Each param has its share, its signed effect and an interval. Where the runs do not say,
    there is no ranking: 'not enough evidence'. --min or --max is needed only to have Optuna's view beside that of 50
    runs and more.
    """
    log = read_log(invocation, repository, conditions, seeds)
    if all(trial.metric(metric) is None for trial in log.trials):
        raise no_such_metric(log.trials, metric)
    report = importance(
        log.trials,
        metric,
        across=frozenset(across),
        log=frozenset(log_params),
        maximize=None if direction is None else not is_less(direction),
    )
    if as_json:
        print_json(report_json(report))
    else:
        _print_importance(report, log)


def _print_importance(report: Importance, log: Log) -> None:
    left = len(report.left_out) + unsuccessful(log.rows.values())
    of = f" of {count(report.n + left, 'run')}" if left else ""
    say(f"{shown(report.metric)} over {count(report.n, 'comparable run')}{of}: {report.method}")
    if report.outcome is Outcome.FOUND:
        _print_effects(report.effects, share_of="SHARE")
    else:
        say("not enough evidence for a ranking")
        if report.pairs:
            say("what pairs of runs show that differ in one param only:")
            _print_effects(report.pairs, share_of="")
    figures = (
        ("leave-one-out R²", report.loo_r2),
        ("R²", report.r2),
        ("p", report.p),
        ("noise (standard deviation of one run)", report.noise_sd),
    )
    said = ", ".join(f"{name} {number:.3g}" for name, number in figures if number is not None)
    if said:
        say(said)
    if report.cross_check is not None:
        shares = sorted(report.cross_check.items(), key=lambda item: -item[1])
        say("PED-ANOVA of Optuna: " + ", ".join(f"{shown(name)} {share:.0%}" for name, share in shares))
    _print_comparable(report.comparable_by)
    say_notes([*report.notes, *_left_out(report, log)])


def _print_comparable(comparable_by: Mapping[str, Value]) -> None:
    same = [f"{shown(name)} {plain(value)}" for name, value in comparable_by.items() if value not in (None, "")]
    if same:
        say(f"all with {', '.join(same)}")


def _left_out(report: Importance, log: Log) -> list[str]:
    """How many runs were not compared, for each reason."""
    counts = Counter(reason for each in report.left_out for reason in each.reasons)
    found = [f"{count(number, 'run')} not compared: {reason}" for reason, number in counts.most_common()]
    failed = unsuccessful(log.rows.values())
    return [*found, *([f"{count(failed, 'run')} not compared: not done"] if failed else [])]


def _print_effects(effects: Sequence[Effect], *, share_of: str) -> None:
    titles = ["PARAM", *([share_of] if share_of else []), "EFFECT", "UNIT", "95 % INTERVAL", "P", "PAIRS"]
    rows = []
    for effect in effects:
        name = " = ".join(map(shown, (effect.param, *effect.aliased_with)))
        share = "" if effect.share is None else f"{effect.share:.0%}"
        interval = (
            "" if effect.ci_low is None or effect.ci_high is None else f"{effect.ci_low:+.4g} … {effect.ci_high:+.4g}"
        )
        p = "" if effect.p is None else f"{effect.p:.3f}"
        pairs = "" if effect.n_pairs is None else str(effect.n_pairs)
        shares = [share] if share_of else []
        rows.append([name, *shares, f"{effect.effect:+.4g}", shown(effect.unit), interval, p, pairs])
    texts = ("PARAM", "UNIT", "95 % INTERVAL")
    print_table([Column(name, right=name not in texts) for name in titles], rows)
