"""What the options of mount(8) mean for a mount of ours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fsd.config import Config, with_options
from fsd.errors import UsageError
from fsd.limits import DEFAULT_LIMITS
from fsd_cli.mount_helper import main
from fsd_cli.mount_options import WITHOUT_EFFECT, MountOptions, parse_options


def test_nothing_said() -> None:
    assert parse_options("") == parse_options("rw") == MountOptions()


def test_everything_of_ours() -> None:
    text = "allow_other,cache_dir=/c,cache_size=100G,config=/etc/x.toml,no_interpose,noexec,read_deadline_s=1.5,ro"
    assert parse_options(text) == MountOptions(
        config=Path("/etc/x.toml"),
        allow_other=True,
        cache_dir=Path("/c"),
        settings={"cache_size": "100G", "read_deadline_s": "1.5"},
        interposed=False,
        noexec=True,
    )


def test_everything_of_every_file_system_is_accepted() -> None:
    assert parse_options(",".join([*WITHOUT_EFFECT, "x-systemd.automount", "comment=a"])) == MountOptions()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("allow_othr", "unknown mount option 'allow_othr'; did you mean 'allow_other'"),
        ("xyz", "unknown mount option 'xyz'; see 'man 8 mount.fsd'"),
        ("cache_size", "the option cache_size takes a value; cache_size=…"),
        ("allow_other=1", "the option allow_other takes no value"),
        ("cache_dir=relative", "the option cache_dir must be a path that starts with /, not 'relative'"),
        ("remount,cache_size=1G", "cannot be remounted"),
    ],
)
def test_mistakes(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_options(text)
    assert message in str(caught.value)


def test_sloppy_leaves_out_what_is_not_known() -> None:
    assert parse_options("xyz,noexec", sloppy=True) == MountOptions(noexec=True)


def test_values_are_checked_as_those_of_a_file() -> None:
    config = with_options(Config(), {"cache_size": "1G", "store_threads": "4", "read_deadline_s": "2"})
    assert config.limits == replace(DEFAULT_LIMITS, cache_bytes=1 << 30, store_threads=4, read_deadline_s=2.0)
    for name, value in (("cache_size", "many"), ("store_threads", "0"), ("read_deadline_s", "nan")):
        with pytest.raises(UsageError, match=f"-o: {name}"):
            with_options(Config(), {name: value})


def test_a_fake_mount_checks_and_does_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(tmp_path / "none"), str(tmp_path), "-f", "-v", "-o", "rw,cache_size=1G"]
    assert main(arguments) == 0
    assert capsys.readouterr().out == f"mount.fsd: {tmp_path}/none would be mounted at {tmp_path}\n"
    assert main([*arguments, "-o", "bad"]) == 1
    assert capsys.readouterr().err.startswith("mount.fsd: unknown mount option 'bad'")
    assert main([str(tmp_path)]) == 1
    assert "MOUNTPOINT" in capsys.readouterr().err
