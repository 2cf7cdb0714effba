"""The systemd generator: `python -m fsd_cli.generator NORMAL [EARLY LATE]`, run at boot and by daemon-reload.

For each /etc/fsd/NAME.toml that has a mountpoint it writes a mount unit that needs fsd@NAME.service. By itself that
starts nothing. But a unit with RequiresMountsFor= then knows what its path takes: fsd@NAME.service is started first,
and once that mount is ready systemd finds the mount unit active.

A file with mistakes is left out: the service says what is wrong with it.
"""

from __future__ import annotations

import os
import string
import sys
from collections.abc import Iterator
from pathlib import Path

from fsd.config import ConfigSource
from fsd.errors import FsdError
from fsd.surroundings import SYSTEM_CONFIG

_PLAIN = frozenset(string.ascii_letters + string.digits + ":_.")


def units(folder: Path) -> Iterator[tuple[str, str]]:
    """Name and content of a mount unit for each file in `folder` that describes a mount."""
    for path in sorted(folder.glob("*.toml")):
        try:
            config = ConfigSource((path,), Path("/")).load()
        except FsdError:
            continue
        if config.mountpoint is not None and config.store is not None and _PLAIN.union("-").issuperset(path.stem):
            place = str(config.mountpoint)
            yield f"{escape(place)}.mount", _unit(path, config.store, place)


def escape(path: str) -> str:
    """As `systemd-escape --path` does."""
    escaped = []
    for position, byte in enumerate(os.fsencode(path.strip("/"))):
        letter = chr(byte)
        if letter == "/":
            escaped.append("-")
        elif letter in _PLAIN and not (letter == "." and position == 0):
            escaped.append(letter)
        else:
            escaped.append(f"\\x{byte:02x}")
    return "".join(escaped) or "-"


def _unit(path: Path, store: str, place: str) -> str:
    service = f"fsd@{path.stem}.service"
    return f"""\
# Written by fsd-generator
[Unit]
Description=fsd at {_value(place)}
SourcePath={_value(str(path))}
Requires={service}
After={service}
DefaultDependencies=no

[Mount]
What={_value(store)}
Where={_value(place)}
Type=fsd
"""


def _value(text: str) -> str:
    """A value in which nothing is a specifier, or ends the line."""
    return text.replace("%", "%%").replace("\\", "\\\\").replace("\n", " ")


def main(arguments: list[str]) -> int:
    """Write the units into the folder that systemd names first."""
    for name, content in units(SYSTEM_CONFIG):
        (Path(arguments[0]) / name).write_text(content)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
