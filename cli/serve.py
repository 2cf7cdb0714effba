"""The daemon's own process: `python -m fsd_cli.serve SETTINGS`, which `fsd mount` starts or becomes.

Apart from `fsd mount`, because that process must not import what a daemon needs. Says on its output what happens, and
through a pipe, to who started it, how the start went; ends with the exit codes of every command.
"""

from __future__ import annotations

import os
import sys

import trio

from fsd.daemon import logs, process
from fsd.daemon.lifecycle import ReadyPipe
from fsd.daemon.mount import serve
from fsd.daemon.notify import Notifier
from fsd.daemon.settings import MountSettings
from fsd.errors import FsdError
from fsd_cli.failures import cause_of, exit_code_of, message_of, report


def main(argument: str) -> int:
    """Serve the mount that `argument` (a `MountSettings` as JSON) describes, until it is unmounted."""
    settings = MountSettings.from_json(argument)
    # Who runs it in the foreground, as a service manager does, has times of their own.
    logs.set_up(_log_format(settings.log_format), settings.log_level, timed=settings.ready_descriptor is not None)
    process.tune()
    ready = ReadyPipe(settings.ready_descriptor)
    notifier = Notifier(settings.notify_address)
    try:
        trio.run(serve, settings, ready, notifier)
    except BaseException as error:
        cause = cause_of(error)
        known = isinstance(cause, FsdError)
        ready.failed(message_of(cause), exit_code_of(error))
        report(error, debug=not known)
        return exit_code_of(error)
    return 0


def _log_format(wanted: str) -> str:
    if wanted != "auto":
        return wanted
    return "journal" if logs.goes_to_journal(os.environ.get("JOURNAL_STREAM", ""), sys.stderr.fileno()) else "text"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
