"""A publisher in a process of its own, to be killed or raced: `python -m tests.publish.child PLACE NAME`.

Prints the commit, or exits with the error's code. The packs are small, so that there are many moments between them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import trio

from fsd.errors import FsdError
from fsd.limits import KIB, MIB, Limits
from tests.publish.folders import Desk

LIMITS = Limits(pack_bytes=256 * KIB, own_pack_bytes=MIB, publish_queue_bytes=4 * MIB)


def main(place: str, name: str) -> int:
    """Publish the folder as it is."""
    desk = Desk(Path(place), name, limits=LIMITS)
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        published = trio.run(desk.commit)
    except FsdError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(published.commit.hex(), published.content.new_bytes)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
