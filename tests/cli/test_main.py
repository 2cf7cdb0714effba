"""The frame around the commands: loading, help, global options, endings."""

from __future__ import annotations

import importlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from fsd_cli import main as main_module
from fsd_cli.context import Invocation, pass_invocation
from fsd_cli.main import COMMANDS, Listed, attribute_of, group, main

LISTED = [(name, listed) for commands in COMMANDS.values() for name, listed in commands.items()]

HEAVY = ("trio", "fsd.stores", "fsd.repo", "fsd.format", "blake3", "zstandard", "pyfuse3", "rocksdict", "google")
"""What a start of `fsd` must not wait for."""


def fsd(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`fsd` as a process."""
    return subprocess.run(
        [sys.executable, "-m", "fsd_cli", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | environment,
        check=False,
    )


@pytest.mark.parametrize(("name", "listed"), LISTED, ids=[name for name, _ in LISTED])
def test_the_modules_have_what_the_list_says(name: str, listed: Listed) -> None:
    command = getattr(importlib.import_module(f"fsd_cli.{listed.module}"), attribute_of(name))
    assert isinstance(command, click.Command)
    # A command's own first sentence may say more than the list has room for.
    assert command.help
    assert command.help.startswith(listed.help[:5])


@pytest.mark.parametrize(
    "arguments",
    [["--version"], ["--help"], ["nonsense"], ["prefetch", "/"], ["evict", "/"]],
)
def test_a_start_imports_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys; from fsd_cli.main import main; main(sys.argv[1:]);"
        f"print([name for name in sys.modules if name.startswith({HEAVY!r})], file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stderr.splitlines()[-1] == "[]"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("fsd 0.")


@pytest.mark.parametrize("arguments", [["-h"], ["--help"]])
def test_help_lists_every_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    told = capsys.readouterr().out
    for name, listed in LISTED:
        assert name in told
        assert listed.help in told


@pytest.mark.parametrize("name", [name for name, _ in LISTED])
def test_each_command_has_help_with_the_global_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    told = capsys.readouterr().out
    assert "Commands:" in told or all(option in told for option in ("--store", "--config", "--debug"))


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (["comit"], r"no command 'comit'; did you mean 'commit'.*\?; see 'fsd --help'"),
        (["xyzzy"], r"no command 'xyzzy'; 'fsd --help' lists what there is; see 'fsd --help'"),
        (["--bogus"], r"no such option.*--bogus.*; see 'fsd --help'"),
        (["--config", "/nowhere.toml", "ls"], r"invalid value for '--config': .*/nowhere.toml.*; see 'fsd --help'"),
    ],
)
def test_wrong_usage_is_one_line_and_2(arguments: list[str], pattern: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert re.fullmatch(f"fsd: {pattern}\n", told.err)


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> list[Invocation]:
    """A command `probe` that notes what it was invoked with; with an argument, it raises that."""
    seen: list[Invocation] = []

    @click.command()
    @click.argument("ending", required=False)
    @pass_invocation
    def probe(invocation: Invocation, ending: str | None) -> None:
        seen.append(invocation)
        match ending:
            case "crash":
                raise ZeroDivisionError("by zero")
            case "interrupt":
                os.kill(os.getpid(), signal.SIGINT)
            case "exit":
                click.get_current_context().exit(9)

    monkeypatch.setitem(COMMANDS["Look"], "probe", Listed("text", "Look."))
    monkeypatch.setattr("fsd_cli.text.probe", probe, raising=False)
    monkeypatch.setattr(group, "commands", {})
    return seen


@pytest.mark.parametrize(
    "arguments",
    [
        ["--store", "/s", "--debug", "probe"],
        ["probe", "--store", "/s", "--debug"],
        ["--store", "/other", "probe", "--store=/s", "--debug"],
    ],
)
def test_global_options_stand_before_or_after_the_command(arguments: list[str], probe: list[Invocation]) -> None:
    assert main(arguments) == 0
    assert (probe[0].store, probe[0].debug, probe[0].config) == ("/s", True, None)


def test_without_global_options(probe: list[Invocation], tmp_path: Path) -> None:
    (tmp_path / "c.toml").touch()
    assert main(["probe"]) == 0
    assert (probe[0].store, probe[0].debug) == (None, False)
    assert main(["probe", "--config", str(tmp_path / "c.toml")]) == 0
    assert probe[1].config == tmp_path / "c.toml"


@pytest.mark.usefixtures("probe")
def test_endings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "exit"]) == 9
    assert main(["probe", "interrupt"]) == 130
    assert capsys.readouterr() == ("", "")
    assert main(["probe", "crash"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("fsd: internal error: ZeroDivisionError: by zero; ")
    assert told.count("\n") == 1
    assert main(["probe", "crash", "--debug"]) == 1
    assert capsys.readouterr().err.startswith("Traceback")


def test_a_closed_pipe_is_quiet() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "fsd_cli", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 141


def test_a_terminal_without_unicode_gets_escapes() -> None:
    result = fsd("数据", PYTHONIOENCODING="ascii")
    assert result.returncode == 2
    assert "\\u6570" in result.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    result = fsd(_FSD_COMPLETE=f"{shell}_source")
    assert result.returncode == 0, result.stderr
    assert "_FSD_COMPLETE" in result.stdout


def complete(*words: str) -> list[str]:
    """What fish would offer: plain lines of kind, value and help."""
    result = fsd(_FSD_COMPLETE="bash_complete", COMP_WORDS=" ".join(words), COMP_CWORD=str(len(words) - 1))
    assert result.returncode == 0, result.stderr
    return [line.partition(",")[2] for line in result.stdout.splitlines() if line]


def test_completion_of_commands_and_options() -> None:
    assert complete("fsd", "com") == ["commit"]
    assert "--store" in complete("fsd", "--")
    assert main_module.COMPLETION_VARIABLE == "_FSD_COMPLETE"


def test_completion_of_names(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FSD_STORE", str(published))
    assert complete("fsd", "ls", "b") == ["birds/"]
    assert complete("fsd", "ls", "birds/v") == ["birds/v1", "birds/v2"]
    assert complete("fsd", "tag", "m") == ["model"]
    assert complete("fsd", "tag", "birds", "d") == ["dev"]
    assert complete("fsd", "rm", "birds", "l") == ["labels.csv", "large.bin", "latest"]
    assert complete("fsd", "mv", "birds", "images/w") == ["images/wren/"]
    assert complete("fsd", "rm", "-b", "dev", "birds", "images/wren/1") == ["images/wren/1.jpg"]


@pytest.mark.parametrize("store", ["/nowhere", "gs://bucket/prefix", "ftp://x", "/etc"])
def test_completion_never_fails(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FSD_STORE", store)
    assert complete("fsd", "ls", "b") == []
