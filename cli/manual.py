"""Manual pages made from the commands' own help: `python -m fsd_cli.manual FOLDER` writes them for man(1).

`fsd.1` lists the commands, `fsd-COMMAND.1` has one each (`fsd-COMMAND-SUBCOMMAND.1` where there are subcommands), and
`mount.fsd.8` is for mount(8). (click-man knows only commands that are loaded, one section, and does not escape.)
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

import click

from fsd_cli.main import COMMANDS, group
from fsd_cli.mount_helper import command as mount_helper

_NO_REFILL = "\b"
"""In a line of its own: click leaves the paragraph as it is."""


def pages() -> Iterator[tuple[str, str]]:
    """The name of a file and its content, for each page."""
    context = click.Context(group, info_name="fsd", **group.context_settings)
    yield "fsd.1", _page(context, 1, list(_command_list()))
    yield from _subcommand_pages(context, group)
    yield (
        "mount.fsd.8",
        _page(click.Context(mount_helper, info_name="mount.fsd", **mount_helper.context_settings), 8, []),
    )


def _subcommand_pages(parent: click.Context, commands: click.Group) -> Iterator[tuple[str, str]]:
    for name in commands.list_commands(parent):
        command = commands.get_command(parent, name)
        assert command is not None
        context = click.Context(command, info_name=name, parent=parent)
        if isinstance(command, click.Group):
            below = [f"{_title(context)}-{each}" for each in command.list_commands(context)]
            yield f"{_title(context)}.1", _page(context, 1, _list_of(below, "SUBCOMMANDS"))
            yield from _subcommand_pages(context, command)
        else:
            yield f"{_title(context)}.1", _page(context, 1, [])


def _page(context: click.Context, section: int, more: Iterable[str]) -> str:
    command = context.command
    title = _title(context)
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [
        f'.TH "{_escaped(title.upper())}" "{section}" "" "fsd {version("fsd")}" "fsd manual"',
        ".SH NAME",
        f"{_escaped(title)} \\- {_escaped(command.get_short_help_str(200).rstrip('.'))}",
        ".SH SYNOPSIS",
        f".B {_escaped(context.command_path)}",
        _escaped(usage),
        ".SH DESCRIPTION",
        *_paragraphs(command.help or ""),
    ]
    options = [each.get_help_record(context) for each in command.get_params(context) if isinstance(each, click.Option)]
    lines.append(".SH OPTIONS")
    for names, text in filter(None, options):
        lines += [".TP", f"\\fB{_escaped(names)}\\fR", _escaped(text)]
    lines += more
    also = "fsd-mount(1), mount(8), fstab(5)" if section == 8 else "fsd(1)" if title != "fsd" else "mount.fsd(8)"
    return "\n".join([*lines, ".SH SEE ALSO", _escaped(also), ""])


def _command_list() -> Iterator[str]:
    yield ".SH COMMANDS"
    for section, commands in COMMANDS.items():
        yield f".SS {_escaped(section)}"
        for name, listed in commands.items():
            yield from (".TP", f"\\fBfsd\\-{_escaped(name)}\\fR(1)", _escaped(listed.help))


def _list_of(titles: Iterable[str], heading: str) -> list[str]:
    return [f".SH {heading}", ", ".join(f"\\fB{_escaped(title)}\\fR(1)" for title in titles)]


def _paragraphs(text: str) -> Iterator[str]:
    """Paragraphs of a help text; one that begins with a backspace keeps its lines."""
    for number, paragraph in enumerate(text.split("\f")[0].strip("\n").split("\n\n")):
        lines = [line for line in paragraph.split("\n") if line]
        if number:
            yield ".PP"
        if lines and lines[0].strip() == _NO_REFILL:
            yield from (".nf", *map(_escaped, lines[1:]), ".fi")
        else:
            yield from (_escaped(line.strip()) for line in lines)


def _title(context: click.Context) -> str:
    return context.command_path.replace(" ", "-")


def _escaped(text: str) -> str:
    """A line of text for roff: no request, no escape sequence, hyphens that can be copied, ASCII alone."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = "".join(letter if letter.isascii() else f"\\[u{ord(letter):04X}]" for letter in text)
    return f"\\&{text}" if text.startswith((".", "'")) else text


def main(folder: str) -> int:
    """Write all pages into `folder`, which is made."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    for name, content in pages():
        (place / name).write_text(content, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
