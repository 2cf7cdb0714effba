"""Params from a file and from the command line."""

from __future__ import annotations

import pytest

from fsd.errors import UsageError
from fsd.format.run import Scalar
from fsd.runs.params import Override, overridden, parse_override, parse_params, rewritten, variables

TEXT = """\
# What we know works.
train:
  lr: 1e-3   # with warm-up
  layers: [64, 32]
  "odd name": yes
seed: 3
none:
empty: {}
day: 2026-11-17
big: .inf
words: "a: b"
"""


def test_params_are_flat() -> None:
    assert parse_params(TEXT, "it") == {
        "train.lr": 0.001,
        "train.layers.0": 64,
        "train.layers.1": 32,
        "train.odd name": True,
        "seed": 3,
        "none": None,
        "empty": "{}",
        "day": "2026-11-17",
        "big": "inf",
        "words": "a: b",
    }
    assert parse_params("", "it") == {}


@pytest.mark.parametrize(
    ("text", "why"),
    [("- 1", "no names"), ("a: [", "cannot be read"), ("a.b: 1\na: {b: 2}", "'a.b' twice"), ("!!python/x 1", "read")],
)
def test_what_is_no_file_of_params(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        parse_params(text, "it")


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("lr=0.1", 0.1),
        ("lr=1e-4", 0.0001),
        ("n=3", 3),
        ("a.b=true", True),
        ("a=", None),
        ("a=null", None),
        ("a=x=y", "x=y"),
        ("a='3'", "3"),
        ("a={", "{"),
        ("day=2026-11-17", "2026-11-17"),
    ],
)
def test_overrides(said: str, value: Scalar) -> None:
    name, _, text = said.partition("=")
    assert parse_override(said) == Override(name, text, value)


@pytest.mark.parametrize("said", ["lr", "=3", "a=[1, 2]", "a={b: 1}"])
def test_what_overrides_nothing(said: str) -> None:
    with pytest.raises(UsageError):
        parse_override(said)


def test_overrides_count_more_and_are_in_the_environment_as_they_were_typed() -> None:
    overrides = [parse_override("train.lr=1e-2"), parse_override("new=x")]
    assert overridden({"train.lr": 0.1, "seed": 3}, overrides) == {"train.lr": 0.01, "seed": 3, "new": "x"}
    assert variables(overrides) == {"FSD_PARAM_train_lr": "1e-2", "FSD_PARAM_new": "x"}
    with pytest.raises(UsageError, match="FSD_PARAM_a_b"):
        variables([parse_override("a.b=1"), parse_override("a_b=2")])


def test_a_file_keeps_all_but_the_value() -> None:
    said = ["train.lr=0.5", "train.layers.1=16", "train.odd name=false", "none='x: y'", "words=", "seed=4"]
    changed = rewritten(TEXT, map(parse_override, said), "it")
    assert "  lr: 0.5   # with warm-up\n" in changed
    assert changed.startswith("# What we know works.\n")
    assert parse_params(changed, "it") == overridden(parse_params(TEXT, "it"), map(parse_override, said))
    assert rewritten(TEXT, [], "it") == TEXT


@pytest.mark.parametrize(
    ("text", "said", "why"),
    [
        (TEXT, "train.rate=1", "no param 'train.rate'"),
        (TEXT, "train=1", "no param 'train'"),
        ("a: &x 1\nb: *x\n", "a=2", "alone"),
        ("a: |\n  text\nb: 1\n", "a=2", "alone"),
    ],
)
def test_what_cannot_be_written_to_a_file_is_refused(text: str, said: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        rewritten(text, [parse_override(said)], "it")
