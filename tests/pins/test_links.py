"""What a symlink's text means, and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsd.pins.links import Target, parse_target

COMMIT = "4f2a91c0d3e7" + "0" * 52


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"/fsd/imagenet/{COMMIT}", Target("imagenet", COMMIT)),
        (f"/fsd/imagenet/{COMMIT}+tiny/train/a b", Target("imagenet", COMMIT, "tiny", "train/a b")),
        ("/fsd//imagenet/main/", Target("imagenet", "main")),
        ("/fsd/imagenet/main@2026-11-17", Target("imagenet", "main@2026-11-17")),
        ("/fsd/imagenet/main@2026-11-17+01:00+tiny/x", Target("imagenet", "main@2026-11-17+01:00", "tiny", "x")),
        ("/fsd/imagenet/v1/../v2", Target("imagenet", "v2")),
        ("/fsd", None),
        ("/fsd/imagenet", None),
        ("/fsd/.fsd/status", None),
        ("/fsd/../etc/passwd", None),
        ("/fsdx/imagenet/main", None),
        ("imagenet/main", None),
        ("../fsd/imagenet/main", None),
    ],
)
def test_parsing(text: str, expected: Target | None) -> None:
    assert parse_target(text, "/fsd") == expected


def test_what_is_fixed() -> None:
    assert Target("imagenet", COMMIT).is_fixed
    assert not Target("imagenet", COMMIT[:-1]).is_fixed
    assert not Target("imagenet", COMMIT.upper()).is_fixed
    assert not Target("imagenet", "main").is_fixed


names = st.text(st.characters(blacklist_characters="/\0"), min_size=1, max_size=9).filter(
    lambda n: n not in (".", "..")
)


@given(mountpoint=st.sampled_from(["/fsd", "/srv/data"]), subset=st.sampled_from(["", "tiny"]), parts=st.lists(names))
def test_what_is_written_is_read(mountpoint: str, subset: str, parts: list[str]) -> None:
    target = Target("imagenet", COMMIT, subset, "/".join(parts))
    assert parse_target(target.text(mountpoint), mountpoint) == target
