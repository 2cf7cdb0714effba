"""Rules: what they promise about samples, and their JSON."""

from __future__ import annotations

import json
from decimal import Decimal

import hypothesis.strategies as st
import pytest
from hypothesis import given

from fsd.errors import UsageError
from fsd.repo.rules import Matcher, Rule, parse_builtin, parse_percent, stem_hash

names = st.text(st.sampled_from("abc01.-_"), min_size=1, max_size=8).map(str.encode)
directories = st.sampled_from([b"", b"train", b"train/x", b"val"])
files = st.sets(st.tuples(directories, names), max_size=60)
percents = st.decimals(Decimal("0.000001"), Decimal("99.999999"), places=6)
seeds = st.integers(-5, 5)
patterns = st.lists(st.sampled_from(["*.a", "train/**", "x*", "[0-9]*", "\udcff*"]), max_size=3).map(tuple)


def chosen(rule: Rule, among: set[tuple[bytes, bytes]]) -> set[tuple[bytes, bytes]]:
    matcher = Matcher(rule)
    return {file for file in among if matcher.selects(*file)}


@given(files, percents, percents, seeds)
def test_a_smaller_sample_is_a_part_of_a_larger_one(
    among: set[tuple[bytes, bytes]], one: Decimal, other: Decimal, seed: int
) -> None:
    small, large = sorted([one, other])
    assert chosen(Rule(small, seed=seed), among) <= chosen(Rule(large, seed=seed), among)


@given(files, files, percents, seeds)
def test_what_is_sampled_stays_so_when_files_are_added(
    among: set[tuple[bytes, bytes]], added: set[tuple[bytes, bytes]], percent: Decimal, seed: int
) -> None:
    rule = Rule(percent, seed=seed)
    assert chosen(rule, among) == chosen(rule, among | added) & among


@given(directories, names.filter(lambda name: b"." not in name), percents, seeds)
def test_files_of_one_stem_stay_together(directory: bytes, stem: bytes, percent: Decimal, seed: int) -> None:
    together = {(directory, stem + extension) for extension in (b"", b".jpg", b".json", b".tar.gz", b".mp4")}
    assert chosen(Rule(percent, seed=seed), together) in (set(), together)


def test_stems() -> None:
    assert stem_hash(0, b"", b".hidden.txt") == stem_hash(0, b"", b".hidden")
    assert stem_hash(0, b"", b".hidden") != stem_hash(0, b"", b".other")
    assert stem_hash(0, b"a", b"x") != stem_hash(0, b"b", b"x")
    assert stem_hash(0, b"a", b"x") != stem_hash(1, b"a", b"x")
    assert stem_hash(0, b"a.b", b"x.jpg") == stem_hash(0, b"a.b", b"x.png")
    # Frames, versions and DICOM's identifiers have dots that begin no extension.
    assert len({stem_hash(0, b"", b"run.%04d.png" % number) for number in range(100)}) == 100
    assert stem_hash(0, b"", b"1.2.840.113619.dcm") == stem_hash(0, b"", b"1.2.840.113619.mask.png")
    assert stem_hash(0, b"", b"1.2.840.113619") != stem_hash(0, b"", b"1.2.840.113620")
    assert stem_hash(0, b"", b"x.") != stem_hash(0, b"", b"x")
    # These numbers are the format's: a change of them gives everybody other subsets.
    assert stem_hash(0, b"train/cats", b"0001.jpg") == 0x67FBAD9045C675A
    assert stem_hash(7, b"", b"README") == 0x917BEFC2347F5BF4


@pytest.mark.parametrize(("percent", "least", "most"), [("1", 60, 140), ("10", 900, 1100), ("50", 4800, 5200)])
def test_a_sample_has_about_its_size(percent: str, least: int, most: int) -> None:
    among = {(b"d", b"%d.jpg" % number) for number in range(10_000)}
    assert least <= len(chosen(Rule(Decimal(percent)), among)) <= most


def test_include_exclude_keep_and_paths() -> None:
    among = {(b"", b"README.md"), (b"a", b"1.jpg"), (b"a", b"1.txt"), (b"b", b"1.jpg"), (b"b/c", b"2.jpg")}
    assert chosen(Rule(), among) == among
    assert chosen(Rule(include=("*.jpg",)), among) == {(b"a", b"1.jpg"), (b"b", b"1.jpg"), (b"b/c", b"2.jpg")}
    assert chosen(Rule(include=("*.jpg",), exclude=("b/**",)), among) == {(b"a", b"1.jpg")}
    assert chosen(Rule(exclude=("*.jpg", "*.md")), among) == {(b"a", b"1.txt")}
    assert chosen(Rule(exclude=("*",), keep=("README*",)), among) == {(b"", b"README.md")}
    assert chosen(Rule(paths=(b"b", b"/a/1.txt/")), among) == {(b"a", b"1.txt"), (b"b", b"1.jpg"), (b"b/c", b"2.jpg")}
    assert chosen(Rule(paths=(b"b/c",)), among) == {(b"b/c", b"2.jpg")}
    assert chosen(Rule(paths=()), among) == set()
    assert chosen(Rule(paths=(b"b",), exclude=("b/c/",)), among) == {(b"b", b"1.jpg")}


@given(
    st.builds(
        Rule,
        sample_percent=st.none() | percents,
        limit=st.none() | st.integers(1, 2**53 - 1),
        per_dir=st.none() | st.integers(1, 1000),
        include=patterns,
        exclude=patterns,
        keep=patterns,
        paths=st.none() | st.lists(st.binary(max_size=6), max_size=4).map(tuple),
        seed=seeds,
    )
)
def test_json_and_back(rule: Rule) -> None:
    text = json.dumps(rule.to_json(), sort_keys=True, ensure_ascii=False)
    text.encode()
    assert Rule.from_json(json.loads(text)) == rule
    assert Rule.from_json(json.loads(text)).to_json() == rule.to_json()


def test_equal_rules_have_equal_json() -> None:
    one = Rule(Decimal("10.0"), include=("b", "a", "b"), paths=(b"y", b"x/", b""))
    other = Rule(Decimal("1e1"), include=("a", "b"), paths=(b"x", b"y"))
    assert one == other
    assert one.to_json() == other.to_json() == {"sample_percent": "10", "include": ["a", "b"], "paths": ["x", "y"]}
    assert Rule().to_json() == {}


def test_a_long_list_of_paths_is_stored_as_its_hash() -> None:
    rule = Rule(paths=tuple(b"train/%07d.jpg" % number for number in range(50_000)))
    body = rule.to_json()
    assert body["paths"]["count"] == 50_000
    with pytest.raises(UsageError, match="50000 paths"):
        Rule.from_json(body)
    other = Rule(paths=(*rule.paths[:-1], b"other")) if rule.paths else Rule()
    assert other.to_json() != body


@pytest.mark.parametrize(
    "body",
    [
        {"unheard-of": 1},
        {"sample_percent": "100"},
        {"sample_percent": "x"},
        {"sample_percent": []},
        {"limit": "many"},
        {"limit": 0},
        {"include": 5},
        {"include": [5]},
        {"include": ["[a"]},
        {"paths": [{"hex": "0"}]},
        {"paths": 7},
        {"paths": {}},
        {"seed": None},
    ],
)
def test_json_that_is_no_rule(body: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Rule.from_json(body)


@pytest.mark.parametrize("percent", ["0", "100", "-1", "101", "0.0000001", "NaN", "Infinity"])
def test_impossible_percentages(percent: str) -> None:
    with pytest.raises(UsageError, match="not a sample"):
        Rule(Decimal(percent))


@pytest.mark.parametrize("number", [0, -1, 2**53])
def test_impossible_numbers(number: int) -> None:
    with pytest.raises(UsageError, match="limit"):
        Rule(limit=number)
    with pytest.raises(UsageError, match="per-dir"):
        Rule(per_dir=number)


def test_builtin_subsets() -> None:
    rule = parse_builtin("10pct", ("README*",))
    assert rule == Rule(Decimal(10), keep=("README*",))
    assert parse_builtin("0.5pct", ()) == Rule(Decimal("0.5"))
    assert parse_builtin("0.000001pct", ()) == Rule(Decimal("0.000001"))
    for name in ("tiny", "pct", "xpct", "10", "10%", "1e1pct", "-1pct", "10pct2"):
        assert parse_builtin(name, ()) is None
    for name in ("0pct", "100pct", "1000pct", "0.0000001pct"):
        with pytest.raises(UsageError):
            parse_builtin(name, ())


@pytest.mark.parametrize(("text", "percent"), [("1", "1"), ("10%", "10"), ("0.50%", "0.5"), ("99.999999", "99.999999")])
def test_percentages_as_typed(text: str, percent: str) -> None:
    assert str(parse_percent(text)) == percent


@pytest.mark.parametrize("text", ["", "%", "ten", "1e1", "1_0", "١", "1.", ".5", "0.1234567", "1%%"])
def test_what_is_no_percentage(text: str) -> None:
    with pytest.raises(UsageError, match="not a percentage"):
        parse_percent(text)
