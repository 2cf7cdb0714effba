"""From an exception to what a user sees of it: one line on standard error, and an exit code.

    a FsdError           its message, hint and code
    wrong usage          what is wrong and where the help is; 2
    an OSError           what the system said of which path; 1
    Ctrl-C               nothing; 130
    a closed pipe        nothing; 141, as if the signal had ended us
    anything else        'internal error'; 1. It is a mistake in fsd

A group of exceptions (of tasks that failed together) counts as the first of them that says something to a user.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator

import click

from fsd.errors import FsdError
from fsd_cli.text import one_line

INTERRUPTED = 130
PIPE_CLOSED = 141

_SILENT = (click.exceptions.Exit, KeyboardInterrupt, click.Abort, BrokenPipeError, SystemExit)
"""Say nothing: they are how somebody wanted it to end."""


def exit_code_of(error: BaseException) -> int:
    """The code that `fsd` ends with."""
    cause = cause_of(error)
    match cause:
        case click.exceptions.Exit():
            return cause.exit_code
        case SystemExit():
            return cause.code if isinstance(cause.code, int) else int(cause.code is not None)
        case KeyboardInterrupt() | click.Abort():
            return INTERRUPTED
        case BrokenPipeError():
            return PIPE_CLOSED
        case FsdError() | click.ClickException():
            return cause.exit_code
    return 1


def report(error: BaseException, *, debug: bool) -> None:
    """Say on standard error what happened; with `debug`, from where it came."""
    cause = cause_of(error)
    if isinstance(cause, BrokenPipeError):
        _drop_output()
    if isinstance(cause, _SILENT):
        return
    if isinstance(cause, click.exceptions.NoArgsIsHelpError):
        cause.show()
        return
    if debug and not isinstance(cause, click.ClickException):
        traceback.print_exception(error)
    line = f"fsd: {one_line(message_of(cause))}"
    others = _others(error, cause)
    if others and not debug:
        line += f" (and {others} more, shown with --debug)"
    print(line, file=sys.stderr)


def message_of(cause: BaseException) -> str:
    """The line that says what happened, without the name of the program."""
    match cause:
        case FsdError():
            return str(cause)
        case click.UsageError():
            where = cause.ctx.command_path if cause.ctx is not None else "fsd"
            return f"{_sentence(cause.format_message())}; see '{where} --help'"
        case click.ClickException():
            return _sentence(cause.format_message())
        case OSError() if cause.strerror:
            path = cause.filename if cause.filename is None else os.fsdecode(cause.filename)
            return f"{path}: {cause.strerror}" if path is not None else cause.strerror
    kind = type(cause).__name__
    told = f"{kind}: {cause}" if str(cause) else kind
    return f"internal error: {told}; run it again with --debug and report what it shows"


def cause_of(error: BaseException) -> BaseException:
    """The exception to tell the user about: `error`, or the one of a group that says most."""
    leaves = list(_leaves(error))
    for kind in (KeyboardInterrupt, FsdError, click.ClickException):
        for leaf in leaves:
            if isinstance(leaf, kind):
                return leaf
    return leaves[0]


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from _leaves(member)
    else:
        yield error


def _others(error: BaseException, cause: BaseException) -> int:
    """How many exceptions of a group say something else than `cause`."""
    return len({message_of(leaf) for leaf in _leaves(error)} - {message_of(cause)})


def _sentence(text: str) -> str:
    """A sentence of click's as a part of ours: no capital at the start, no full stop at the end."""
    text = text.strip().removesuffix(".")
    return text if text[:2].isupper() else text[:1].lower() + text[1:]


def _drop_output() -> None:
    """Let what is still buffered for a closed pipe go nowhere, or the interpreter complains when it ends."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
