"""Mixtures of two runs, and what a run's work tree is laid out from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from fsd.errors import UsageError
from fsd.format.inputs import Inputs
from fsd.format.run import RunPin, Scalar, StoredTree
from fsd.repo.runs import Run
from fsd.runs.laying_out import Pin, lay_out, pin_of
from fsd.runs.mixtures import mixture_of
from fsd.runs.params import FILE_NAME
from tests.format.test_run import END, START

WHOLE, OTHER = "4" * 64, "5" * 64


def run(
    params: Mapping[str, Scalar], *pins: RunPin, code: bytes = b"a", reported: Mapping[str, Scalar] | None = None
) -> Run:
    start = replace(START, params=dict(params), pins=pins, code=StoredTree(code * 32, code * 32), overrides=("lr",))
    return Run(start, replace(END, params=dict(reported or {}), inputs=Inputs()))


def test_each_factor_is_one_run_s_or_the_other_s() -> None:
    a = run({"lr": 0.1, "depth": 2, "gone": 1})
    b = run({"lr": "1e-3", "depth": 5, "new": True}, code=b"b")
    mixed = mixture_of(a, b, ["lr", "new", "code"])
    assert mixed.params == {"lr": "1e-3", "depth": 2, "gone": 1, "new": True}
    assert (mixed.code, mixed.command, mixed.changed) == (b.start, a.start, ("code", "lr", "new"))
    (override,) = mixed.overrides
    assert (override.name, override.text, override.value) == ("lr", '"1e-3"', "1e-3")
    assert mixture_of(a, b, ["gone"]).params == {"lr": 0.1, "depth": 2}


def test_a_version_and_a_subset_of_it_are_mixed_by_themselves() -> None:
    a, b = run({"data": "/fsd/birds/v1/x"}), run({"data": "/fsd/birds/v2+tiny/x"})
    assert mixture_of(a, b, ["data"]).params["data"] == "/fsd/birds/v2/x"
    assert mixture_of(a, b, ["data.subset"]).params["data"] == "/fsd/birds/v1+tiny/x"
    assert mixture_of(a, b, ["data", "data.subset"]).params == b.start.params


def test_pins_are_mixed_in_the_same_way() -> None:
    a = run({}, RunPin("data", "birds", WHOLE, "", b"a" * 32), RunPin("old", "birds", WHOLE, "", b"a" * 32))
    b = run({}, RunPin("data", "birds", f"{OTHER}+tiny", "", b"s" * 32))

    def pinned(*changed: str) -> dict[str, str]:
        return {pin.link: pin.target.revision for pin in mixture_of(a, b, changed).pins}

    assert pinned() == {"data": WHOLE, "old": WHOLE}
    assert pinned("pins.data") == {"data": OTHER, "old": WHOLE}
    assert pinned("pins.data.subset") == {"data": f"{WHOLE}+tiny", "old": WHOLE}
    assert pinned("pins.data", "pins.data.subset", "pins.old") == {"data": f"{OTHER}+tiny"}


@pytest.mark.parametrize("name", ["inputs", "repository", "width"])
def test_what_nobody_can_set_is_said(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be"):
        mixture_of(run({}), run({}, reported={"width": 3}), [name])


def test_a_pin_to_a_branch_is_put_back_to_the_commit_that_it_was() -> None:
    moving = pin_of(RunPin("data", "birds", "main", "below", bytes.fromhex(WHOLE)))
    assert (moving.target.text("/fsd"), moving.was) == (f"/fsd/birds/{WHOLE}/below", "main")
    for revision in (WHOLE, "main+tiny"):
        kept = pin_of(RunPin("data", "birds", revision, "", b"s" * 32))
        assert (kept.target.text("/fsd"), kept.was) == (f"/fsd/birds/{revision}", "")
    assert pin_of(RunPin("gone", "birds", "v9", "", None)).target.text("/fsd") == "/fsd/birds/v9"


async def test_params_and_pins_are_laid_out_beside_the_code(tmp_path: Path) -> None:
    pin = pin_of(RunPin("deep/data", "birds", WHOLE, "", None))
    await lay_out(tmp_path, "src", {"lr": 0.1}, "lr: 0.5  # mine\n", [pin])
    assert (tmp_path / "src" / FILE_NAME).read_text() == "lr: 0.1  # mine\n"
    assert os.readlink(tmp_path / "deep" / "data") == f"/fsd/birds/{WHOLE}"
    await lay_out(tmp_path, "", {}, "", [])
    assert not (tmp_path / FILE_NAME).exists()


@pytest.mark.parametrize("link", ["../out", "/out", "way/out"])
async def test_a_record_does_not_lead_out_of_the_folder(tmp_path: Path, link: str) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "way").symlink_to("..")
    pin: Pin = pin_of(RunPin("x", "birds", WHOLE, "", None))._replace(link=link)
    with pytest.raises(UsageError, match="leads out"):
        await lay_out(inside, "", {}, "", [pin])
    with pytest.raises(UsageError, match="leads out"):
        await lay_out(inside, link, {"lr": 1}, "", [])
    assert not (tmp_path / "out").exists()
