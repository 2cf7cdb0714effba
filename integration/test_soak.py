"""`script/soak` for some seconds: everything is done, nothing is wrong. In so little time nothing is said of leaks."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from integration.program import Program
from integration.soak.lives import JUDGED, Growth, Life, Sample, growths
from integration.soak.reader import Event
from integration.soak.report import READS, figures, table
from integration.soak.truth import Shape, files_of, write_version
from integration.soak.weather import CALM, KINDS, Spell
from integration.soak.world import Plan, soaking
from integration.waiting import wait_for

SHORT = Plan(
    20.0,
    Shape(small=60, large=2),
    spell_s=2.0,
    publish_every_s=1.0,
    evict_every_s=1.5,
    restart_every_s=5.0,
    sample_every_s=0.5,
    tell_every_s=2.0,
    judges_growth=False,
)


def test_a_short_soak(tmp_path: Path) -> None:
    with soaking(SHORT, tmp_path) as soak:
        soak.run(print)
        found = figures(soak)
    print(table(found))
    assert found["violations"] == []
    done = (*READS, "bytes", "versions", "evictions")
    assert [name for name in done if not found[name]] == [], "something was never tried"
    assert len(found["samples"]) > 5
    assert found["restarts_after_sigkill"] + found["restarts_after_a_clean_stop"] > 0


def test_what_is_wrong_is_a_violation(tmp_path: Path) -> None:
    """The judge sees a wrong byte, an error in calm weather, and one that corruption explains."""
    with soaking(SHORT, tmp_path) as soak:
        life = soak.lives[0]
        corruption = next(kind for kind in KINDS if kind.may_fail_reads)
        soak.weather.spells += [Spell(CALM, 0.0, 10.0), Spell(corruption, 11.0, 20.0)]
        eio = Event("error", "x", 5.0, 6.0, 5, "random")
        for event in (Event("wrong", "x", 1.0, 2.0), eio, Event("error", "x", 12.0, 13.0, 5, "random")):
            soak._judge_event(life, event)
    assert len(soak.violations) == 2
    assert (soak.counts["wrong"], soak.counts["unexplained_errors"], soak.counts["errors_of_faults"]) == (1, 1, 1)


@pytest.mark.parametrize("measure", JUDGED)
def test_growth_is_seen(measure: str) -> None:
    steady = [Sample(float(number), 10**8, 10**8, 100, 30, 500) for number in range(60)]
    assert not any(each.is_leak for each in growths(steady))
    leaking = [
        Sample(**(asdict(each) | {measure: int(getattr(each, measure) * (1 + number / 100))}))
        for number, each in enumerate(steady)
    ]
    assert [each.measure for each in growths(leaking) if each.is_leak] == [measure]
    assert not Growth("threads", 10, 12, 12).is_leak, "one more of a few is no leak"


def test_the_truth_is_what_is_written(tmp_path: Path) -> None:
    shape = Shape(small=50, large=1)
    versions = [files_of("one", number, shape) for number in (1, 2)]
    assert versions[0] != versions[1]
    assert len(versions[0].items() & versions[1].items()) > 25, "most is shared"
    for number, files in enumerate(versions, 1):
        write_version(tmp_path, "one", number, shape)
        for path, file in files.items():
            data = (tmp_path / path).read_bytes()
            assert data == b"".join(file.pieces())
            assert file.read(file.size // 3, 1001) == data[file.size // 3 :][:1001]


def test_who_reads_a_wrong_byte_says_so(tmp_path: Path) -> None:
    """A plain folder in the place of a mount, with one byte that is wrong."""
    shape = Shape(small=3, large=1)
    version = tmp_path / "mount of x" / "one" / "v1"
    life = Life("x", Program(tmp_path / "home"), tmp_path)
    version.mkdir(parents=True)
    write_version(version, "one", 1, shape)
    (version.parent / "main").symlink_to("v1")
    for path in files_of("one", 1, shape):
        with (version / path).open("r+b") as file:
            file.write(bytes(8))
    ledger = tmp_path / "ledger"
    ledger.write_text("one 1 0.0\n")
    life.start_readers(ledger, 1, shape)
    try:
        wait_for(lambda: any('"wrong"' in each.read_text() for each in life.records if each.exists()), "a wrong byte")
    finally:
        assert life.stop_readers() == []
